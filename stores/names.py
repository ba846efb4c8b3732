"""How things are named in PostgreSQL."""


def schema_of(namespace: str) -> str:
    """The schema of an installation: `soma`, or `soma_<namespace>`."""
    return f"soma_{namespace}" if namespace else "soma"


def quoted(name: str) -> str:
    """An identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
