"""Vectors for texts. The default provider needs no model: hashed character n-grams with signs.

Each n-gram of 3 to 5 characters has a place and a sign by its hash (Weinberger et al. 2009), and
weighs 1 + ln(how often it stands there). Signs are as often plus as minus, so two texts that share
no n-gram have a product near 0, whatever their lengths: about 1/sqrt(dimension) around it.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agents.recall.law import unit

NGRAMS = (3, 4, 5)
CHARACTERS_MAX = 32_768  # of a text count
DEPTH_MAX = 32  # of a payload
_SPACE = re.compile(r"\W+")
_STEP, _MIX = np.uint64(0x100000001B3), np.uint64(0xFF51AFD7ED558CCD)  # FNV; Murmur3's last step
_SHIFT, _SIGN = np.uint64(33), np.uint64(63)

Vector = npt.NDArray[np.float64]


class ProviderDown(Exception):
    """No vectors can be made now; the text says why, in words of ours alone: tenants read it.

    Nothing else makes them instead.
    """


class NotAsked(ProviderDown):
    """The provider failed before, and wasn't asked about these texts."""


class HardTexts(ProviderDown):
    """Not of these texts: one that is short and plain has a vector just then."""


class UnfitText(Exception):
    """The provider refuses this very text: one that is short and plain has a vector just then."""


class Provider(Protocol):
    """Makes vectors of texts. Vectors of another revision are never compared with its own."""

    dimension: int
    revision: str
    here: bool  # in this process and at once; else memories wait for their vectors

    def embed(self, text: str) -> Vector:
        """A unit vector (dimension,); zero for a text without any sign of writing.

        `ProviderDown`, `NotAsked`, `HardTexts`, `UnfitText`.
        """

    def embed_all(self, texts: Sequence[str]) -> list[Vector]:
        """Of several, in their order. `UnfitText` where one of them is, whichever it is."""

    def rest_s(self) -> float:
        """For how long it needn't be asked, after it was down."""

    def close(self) -> None:
        """End what it holds."""


class HashedNgrams:
    """The default: the same text gives the same vector, on every machine and without a download."""

    here = True

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.revision = f"hashed-ngrams-1/{dimension}"

    def embed_all(self, texts: Sequence[str]) -> list[Vector]:
        return [self.embed(text) for text in texts]

    def rest_s(self) -> float:
        return 0.0

    def close(self) -> None:
        pass

    def embed(self, text: str) -> Vector:
        letters = _letters(text)
        whole = np.zeros(self.dimension)
        for n in NGRAMS:
            hashes, counts = np.unique(_hashes(letters, n), return_counts=True)
            signs = np.where(hashes >> _SIGN, 1.0, -1.0)
            places = (hashes % np.uint64(self.dimension)).astype(np.intp)
            weights = signs * (1.0 + np.log(counts))
            whole += np.bincount(places, weights, minlength=self.dimension)
        return unit(whole)


def _letters(text: str) -> "npt.NDArray[np.uint64]":
    """The characters that count, as numbers, words with one space around them."""
    folded = unicodedata.normalize("NFKC", text[:CHARACTERS_MAX]).casefold()
    words = _SPACE.sub(" ", folded).strip()
    spaced = f" {words} " if words else ""
    return np.frombuffer(spaced.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _hashes(letters: "npt.NDArray[np.uint64]", n: int) -> "npt.NDArray[np.uint64]":
    """A hash of each n-gram, its length included (wrapping in 64 bits)."""
    count = max(0, letters.size - n + 1)
    hashes = np.full(count, n, np.uint64)
    for k in range(n):
        hashes = hashes * _STEP ^ letters[k : k + count]
    hashes = (hashes ^ hashes >> _SHIFT) * _MIX
    return hashes ^ hashes >> _SHIFT


def text_of(payload: str) -> str:
    """What a payload (the text of a JSON object) says: its texts, else its own text."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    return " ".join(_texts(value, DEPTH_MAX)) or payload


def _texts(value: Any, depth: int) -> list[str]:
    if isinstance(value, str):
        return [value]
    if depth == 0 or not isinstance(value, dict | list):
        return []
    inside = value.values() if isinstance(value, dict) else value
    return [text for one in inside for text in _texts(one, depth - 1)]
