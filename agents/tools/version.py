"""Which version this is."""

from importlib import metadata


def version() -> str:
    """Of this package, as it is installed; 0 where it isn't."""
    try:
        return metadata.version("soma-stream")
    except metadata.PackageNotFoundError:
        return "0"
