"""How the predictors' kernels are compiled."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

# Kernels borrow their arrays from the caller: counting references to every view of them (numba's
# default) costs time, when they run and when they are compiled. Without it (`_nrt`) the compiler
# refuses a kernel that would allocate.
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
Law = TypeVar("Law", bound=Callable[..., Any])


def entry(law: Law) -> Law:
    """Compile a function that Python and other kernels call."""
    return cast(Law, njit(**OPTIONS)(law))


def view(law: Law) -> Law:
    """Compile a function that returns a view of an array into each kernel that calls it.

    A view that is returned would have to be counted.
    """
    return cast(Law, njit(**OPTIONS, inline="always")(law))
