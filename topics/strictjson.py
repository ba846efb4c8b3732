"""JSON from others, read by one rule everywhere (RFC 8259, and stricter than Python's reader).

White space and a byte order mark in front are passed over. What could be read in two ways is
refused: a name given twice, NaN and infinities, a number beyond a float64, deep nesting.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

DEPTH_MAX = 32
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"  # white space of JSON
SHOWN_MAX = 40  # characters of what is wrong
_QUOTE = 2
_STEPS = bytes.maketrans(b'[{]}"', bytes((1, 1, 255, 255, _QUOTE)))
_OTHERS = bytes(set(range(256)) - set(b'[{]}"'))


class NotJsonError(ValueError):
    """The text says why; `place` is the character from 0 where it is known, else -1."""

    def __init__(self, why: str, place: int = -1) -> None:
        super().__init__(why)
        self.place = place


class NotUtf8Error(NotJsonError):
    """It isn't even text."""


def begins_object(value: bytes) -> bool:
    """Whether a record's value is meant as a JSON object; Avro on the wire begins with a zero."""
    start = value[:1]
    return start == b"{" or (
        start != b"\0" and value.removeprefix(BOM).lstrip(BLANK).startswith(b"{")
    )


def parse(data: bytes | str, parse_int: Callable[[str], Any] | None = None) -> Any:
    """The JSON value. `NotJsonError` says why it is none, or none that we take."""
    try:
        raw = (data.encode() if isinstance(data, str) else data).removeprefix(BOM)
        if depth(raw) > DEPTH_MAX:
            raise NotJsonError(f"nested too deeply: more than {DEPTH_MAX} levels")
        return (_DECODER if parse_int is None else _decoder(parse_int)).decode(raw.decode())
    except UnicodeEncodeError as error:
        raise NotUtf8Error(f"not UTF-8: {error.reason}", error.start) from None
    except UnicodeDecodeError as error:
        raise NotUtf8Error(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        why = f"not JSON: {error.msg} at character {error.pos + 1}"
        raise NotJsonError(why, error.pos) from None
    except NotJsonError:
        raise
    except ValueError:
        raise NotJsonError("a number has too many digits") from None


def depth(data: bytes) -> int:
    """How deeply brackets nest, outside strings, at most: told without parsing."""
    openings = data.count(b"[") + data.count(b"{")
    if openings <= DEPTH_MAX:
        return openings  # it can't be deeper; most texts end here
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    import numpy as np  # seldom: not for every `soma X --help`

    steps = np.frombuffer(plain.translate(_STEPS, _OTHERS), np.int8)
    quotes = steps == _QUOTE
    outside = np.cumsum(quotes, dtype=np.int32) % 2 == 0
    levels = np.cumsum(np.where(outside & ~quotes, steps, 0), dtype=np.int32)
    return max(0, int(levels.max()))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise NotJsonError(f"{_shown(name)}: given twice")
            seen.add(name)
    return found


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotJsonError(f"{text[:SHOWN_MAX]} is beyond a float64's range")
    return number


def _constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} is no number in JSON")


def _decoder(parse_int: Callable[[str], Any] | None) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_float=_float, parse_int=parse_int,
        parse_constant=_constant,
    )  # fmt: skip


_DECODER = _decoder(None)  # to make one takes as long as a short text


def _shown(name: str) -> str:
    text = json.dumps(name[:200])
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
