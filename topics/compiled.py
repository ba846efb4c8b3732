"""Where compiled kernels are kept between runs: a folder per module and state of its sources.

numba looks only at the file of the function that Python calls: a change in what that calls, or in
the bounds check flag, would go unseen, and yesterday's law would run under today's name. So a
module's kernels lie in a folder named by the module and all of this project that it imports, over
any number of steps. What a module doesn't import can change without compiling it anew, and
checkouts of the same sources share their kernels.
"""

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numba
from numba.core import config as numba_config
from numba.core.caching import _CacheLocator

config: Any = numba_config  # its settings are made at run time
Locator: Any = _CacheLocator
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "stores", "topics")  # whose files kernels are made of
FOLDER = "SOMA_KERNELS_DIR"  # read here, before there are settings; they show it all the same
# numba's own locators, for kernels that aren't ours.
OTHERS = ("UserProvidedCacheLocator", "InTreeCacheLocator", "UserWideCacheLocator")
KEPT = 8  # of a module's earlier sources stay so many: other checkouts use them in turn


# A worker that starts asks for seventy files: parsing them took .7 s, a sixth of its start. A line
# of a text that looks like an import counts too: at worst a module is compiled anew.
_TYPES_ONLY = re.compile(r"^( *)if TYPE_CHECKING:\n(?:(?:\1 +.*)?\n)*", re.MULTILINE)
_IMPORT = re.compile(r"^ *(?:from +(\S+) +import +(\([^)]*\)|.*)|import +(.*))$", re.MULTILINE)
_WORD = re.compile(r"(?<!as )\b[\w.]+")


@cache
def imported(path: Path) -> frozenset[Path]:
    """The files of this project that a file imports itself, but for `if TYPE_CHECKING:`."""
    found: set[Path] = set()
    for module, names, modules in _IMPORT.findall(_TYPES_ONLY.sub("", path.read_text())):
        inside = [f"{module}.{name}" for name in _WORD.findall(names)] if module else []
        for name in [module, *inside, *_WORD.findall(modules)]:
            file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] in PACKAGES and file.is_file():
                found.add(file)
    return frozenset(found)


@cache
def sources(path: Path) -> tuple[Path, ...]:
    """A file and all that it imports of this project, over any number of steps, in order."""
    found = {path}
    todo = [path]
    while todo:
        new = set(imported(todo.pop())) - found
        found |= new
        todo.extend(new)
    return tuple(sorted(found))


def digest(paths: Iterable[Path]) -> str:
    """Names these sources, this numba and its flags, 16 hex digits."""
    total = hashlib.sha256(f"{sys.version} {numba.__version__} {config.BOUNDSCHECK}".encode())
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path.parent.name}/{path.name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]


def place_of(path: Path) -> Path:
    """The folder of a module's kernels, below `config.CACHE_DIR`."""
    return Path(config.CACHE_DIR) / f"{path.parent.name}.{path.stem}-{digest(sources(path))}"


class KernelLocator(Locator):  # type: ignore[misc]  # numba carries no types
    """Says where numba keeps the kernels of one of our modules."""

    def __init__(self, line: int, place: Path) -> None:
        self._line = line
        self._place = place

    def get_cache_path(self) -> str:
        return str(self._place)

    def get_source_stamp(self) -> str:
        return self._place.name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self | None:
        """A locator for a function of ours; None for another's, or without a cache."""
        path = Path(file).resolve()
        if not config.CACHE_DIR or not any(ROOT / name in path.parents for name in PACKAGES):
            return None
        return cls(function.__code__.co_firstlineno, _made(path))


@cache
def _made(path: Path) -> Path:
    """A module's folder, used just now; folders of its older sources go."""
    place = place_of(path)
    place.mkdir(exist_ok=True)
    os.utime(place)
    prune(place, f"{path.parent.name}.{path.stem}-*")
    return place


def prune(newest: Path, pattern: str) -> None:
    """Remove what lies beside the newest under such names, but for what was used last."""
    others = [one for one in newest.parent.glob(pattern) if one != newest]
    for old in sorted(others, key=_used, reverse=True)[KEPT:]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def _used(folder: Path) -> float:
    """When a folder was last used; long ago if another process has just removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _ours(folder: Path) -> bool:
    """Whether we can write there, and nobody else: what lies there is run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    theirs = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        os.access(folder, os.W_OK, effective_ids=True)
        and found.st_uid == os.geteuid()
        and not theirs
    )


def folders() -> list[Path]:
    """Where the kernels may be kept, what is wished for first; the last is for this user alone."""
    given = os.environ.get(FOLDER) or os.environ.get("NUMBA_CACHE_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    found = [Path(given)] if given else [Path(cache) / "soma-stream" / "kernels"]
    temporary = Path(tempfile.gettempdir()) / f"soma-kernels-{os.geteuid()}"
    return [*(one for one in found if one.is_absolute()), temporary]


def prepare() -> None:
    """Point numba to the kept kernels; called before the first kernel is made.

    SOMA_KERNELS_DIR says where they are kept, else NUMBA_CACHE_DIR, else the user's cache. Where
    that can't be written (an image with a read-only file system), a copy of it is used, to
    which each start adds what is new. Where there is no home, they lie in a folder of this user's
    among the temporary ones.
    """
    wished, *others = folders()
    place = next((one for one in (wished, *others) if _ours(one)), None)
    if place is None:
        return
    if place != wished and _safe(wished):
        _copy(wished, place)
    config.CACHE_DIR = str(place)
    config.CACHE_LOCATOR_CLASSES = ",".join([f"{__name__}.{KernelLocator.__name__}", *OTHERS])


def _copy(source: Path, target: Path) -> None:
    """Add what the target lacks: each folder at once and whole, for other processes look on."""
    for one in source.iterdir():
        there = target / one.name
        if there.exists():
            continue
        half = Path(tempfile.mkdtemp(prefix=".copy-", dir=target))
        if one.is_dir():
            shutil.copytree(one, half / one.name)
        else:
            shutil.copy2(one, half)
        try:
            (half / one.name).rename(there)
        except OSError:
            if not there.exists():  # another process was faster
                raise
        finally:
            shutil.rmtree(half)


def _safe(folder: Path) -> bool:
    """Whether a folder that we can't write is there, and only root or we can have filled it."""
    try:
        found = folder.stat()
    except OSError:
        return False
    theirs = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and not theirs


# Kernels borrow their arrays from the caller: counting references to every view of them (numba's
# default) costs two atomic operations where an array is handed on, more than reading a field does.
# Without it (`_nrt`) the compiler refuses what would allocate. A private option of numba's: were it
# gone, the decorator would raise.
_COUNTED: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
_LEAN: dict[str, Any] = {**_COUNTED, "_nrt": False}
Law = TypeVar("Law", bound=Callable[..., Any])


def entry(law: Law) -> Law:
    """Compile a function that Python and other kernels call."""
    return cast(Law, numba.njit(**_LEAN)(law))


def kernel(law: Law) -> Law:
    """Compile a function that kernels call, to be inlined."""
    return cast(Law, numba.njit(**_LEAN, forceinline=True)(law))


def view(law: Law) -> Law:
    """Compile a function that returns a view of an array into each kernel that calls it.

    A view that is returned would have to be counted.
    """
    return cast(Law, numba.njit(**_LEAN, inline="always")(law))


def glue(law: Law) -> Law:
    """Compile a function that makes arrays, or calls kernels with slices of them."""
    return cast(Law, numba.njit(**_COUNTED)(law))


def part(law: Law) -> Law:
    """Compile a part of glue, only as that."""
    return cast(Law, numba.njit(**_COUNTED, inline="always")(law))


prepare()  # every kernel is made by what stands here
