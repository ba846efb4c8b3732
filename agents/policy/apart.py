"""regopy, with its library apart from the process's other C++ libraries.

rego-cpp 1.5 brings its own `operator new` and `delete`, and the one C++ runtime of a process binds
to them or to the C library's, by who comes first. Memory of the one then ends at the other, which
keeps it: with NumPy first a query loses 1.5 kB, with regopy first `numpy.unique` does 8.5 kB (a
worker grew by 43 MB a second). So the library gets a namespace of its own, with a runtime and a C
library for itself (glibc's dlmopen); elsewhere it is loaded as ever, and queries lose what they
lose.

Everything of regopy is imported from here. tests/unit/agents/policy/test_policies.py measures
both sides; test_apart.py pins what this hooks into.
"""

import ctypes
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

NEW_NAMESPACE, NOW = -1, 2  # LM_ID_NEWLM, RTLD_NOW (dlfcn.h)


def _isolated(path: Path) -> ctypes.CDLL | None:
    """The library in a namespace of its own; None where that can't be had."""
    try:
        dlmopen = ctypes.CDLL(None).dlmopen
    except (AttributeError, OSError, TypeError):  # no glibc
        return None
    dlmopen.restype, dlmopen.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_long, ctypes.c_char_p, ctypes.c_int],
    )
    handle = dlmopen(NEW_NAMESPACE, str(path).encode(), NOW)
    return ctypes.CDLL(str(path), handle=handle) if handle else None


def _load() -> ctypes.CDLL | None:
    spec = find_spec("regopy")
    if "regopy" in sys.modules or spec is None or spec.origin is None:
        return None
    library = _isolated(Path(spec.origin).with_name("librego_shared.so"))
    if library is None:
        return None
    usual = ctypes.cdll.LoadLibrary
    ctypes.cdll.LoadLibrary = lambda _: library  # type: ignore[method-assign, assignment]
    try:
        import regopy  # noqa: F401
    finally:
        ctypes.cdll.LoadLibrary = usual  # type: ignore[method-assign]
    return library


LIBRARY = _load()
_begin: Callable[[], object] = LIBRARY.__getattr__("__ctype_init") if LIBRARY else lambda: None
_begun = threading.local()


def enter() -> None:
    """Before regopy is used in a thread: the namespace's C library knows only the one it began in.

    Without it whatever classifies or prints characters there reads a table that isn't.
    """
    if not getattr(_begun, "done", False):
        _begin()
        _begun.done = True


from regopy import Bundle, Interpreter, LogLevel, RegoError, rego_version  # noqa: E402

__all__ = ["LIBRARY", "Bundle", "Interpreter", "LogLevel", "RegoError", "enter", "rego_version"]
