"""Where compiled kernels are kept between runs: one folder per state of the sources.

numba looks only at the file of the function that Python calls: a change in what that calls, or in
the bounds check flag, would go unseen, and yesterday's law would run under today's name. So the
cache lies in a folder named by all sources that kernels are made of.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config

config: Any = numba_config  # its settings are made at run time
KEPT = 4  # folders of earlier sources that stay: other checkouts and bounds checks use them in turn
_NOT_KERNELS = ("commands", "tools", "projections")


def sources() -> list[Path]:
    """Every file that a kernel may be made of."""
    root = Path(__file__).resolve().parents[1]
    found = [*(root / "topics").glob("*.py"), *(root / "agents").glob("*/*.py")]
    return sorted(path for path in found if path.parent.name not in _NOT_KERNELS)


def digest(paths: Iterable[Path]) -> str:
    """Names these sources, this numba and its flags, 16 hex digits."""
    total = hashlib.sha256(f"{sys.version} {numba.__version__} {config.BOUNDSCHECK}".encode())
    for path in paths:
        content = path.read_bytes()
        total.update(f"{path.parent.name}/{path.name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]


def prepare() -> None:
    """Point numba to the folder of these sources; called before the first kernel is made.

    NUMBA_CACHE_DIR says where the folders are, else the user's cache. Where that can't be written
    numba keeps to its own ways.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(given) if given else Path(cache) / "soma-stream" / "kernels"
    place = base / f"soma-{digest(sources())}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        os.utime(place)
    except OSError:
        return
    config.CACHE_DIR = str(place)
    for old in sorted(base.glob("soma-*"), key=lambda path: -path.stat().st_mtime)[1 + KEPT :]:
        shutil.rmtree(old, ignore_errors=True)
