"""What is said of a job: text that can be written, whatever it came from."""

LINE_MAX = 300  # characters: a record may stand in an error


def printable(text: str) -> str:
    """A text as UTF-8 has it: halves of surrogate pairs are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def line_of(error: BaseException) -> str:
    """What is wrong, in one line."""
    return printable(" ".join(str(error).split())[:LINE_MAX]) or type(error).__name__
