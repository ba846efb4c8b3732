"""Vectors by HTTP, from a server of OpenAI's POST /v1/embeddings (many speak it).

A call that fails counts for the circuit; while that is open texts aren't sent, and nothing else
makes vectors instead: questions are told (`ProviderDown`), memories wait. A call that may have
failed by its texts is followed by one of a plain text: where that passes the server is well, and
the texts are to blame. What the server makes is refused unless it is of the dimension that was
set, and finite. Nothing that it says is repeated: it may be of another tenant's text, or a key.
"""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.recall.breaker import Breaker
from agents.recall.embedding import (
    CHARACTERS_MAX,
    HardTexts,
    NotAsked,
    ProviderDown,
    UnfitText,
    Vector,
)
from agents.recall.law import unit
from agents.recall.posts import DONE, Posts

if TYPE_CHECKING:
    from agents.settings.groups import RecallSettings

PATH = "/v1/embeddings"
UNFIT = (400, 413, 422)  # it is about the texts, or about all that is asked
BROKEN = 500  # and above: a text may have done it
PLAIN = "a"  # a text that every model takes
NUMBER_BYTES = 64  # of an answer's JSON, a number with its indentation
OTHER_BYTES = 65_536  # of it, beside the numbers


class _Failed(Exception):
    """A call did, maybe by its texts."""

    def __init__(self, why: str, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


def provider_of(own: "RecallSettings") -> "HttpProvider":
    """As the settings have it. `SettingsError` where they don't say whom to ask for what."""
    from agents.settings import SettingsError

    if not own.embedding_url or not own.embedding_model:
        raise SettingsError(
            "SOMA_RECALL__PROVIDER=http wants SOMA_RECALL__EMBEDDING_URL and "
            "SOMA_RECALL__EMBEDDING_MODEL"
        )
    return HttpProvider(own)


class HttpProvider:
    """Asked from several threads. Texts are cut at CHARACTERS_MAX."""

    here = False

    def __init__(self, own: "RecallSettings") -> None:
        self.dimension = own.dimension
        self.revision = f"{own.embedding_model}@{own.embedding_revision or 1}/{own.dimension}"
        self._model, self._most = own.embedding_model, own.embedding_batch
        token = own.embedding_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._posts = Posts(own.embedding_url.rstrip("/") + PATH, headers, own.embedding_timeout_s)
        self._breaker = Breaker(time.monotonic)
        self._why = ""

    def embed(self, text: str) -> Vector:
        return self.embed_all([text])[0]

    def embed_all(self, texts: Sequence[str]) -> list[Vector]:
        found: list[Vector] = []
        for begin in range(0, len(texts), self._most):
            found += self._asked(
                [one[:CHARACTERS_MAX] for one in texts[begin : begin + self._most]]
            )
        return found

    def rest_s(self) -> float:
        return self._breaker.rest_s()

    def close(self) -> None:
        """End its connections."""
        self._posts.close()

    def _asked(self, texts: list[str]) -> list[Vector]:
        """One question, or none while the circuit is open. As `embed`."""
        ticket = self._breaker.enter()
        if ticket is None:
            raise NotAsked(f"it isn't asked since it failed: {self._why}")
        well = False
        try:
            found = self._tried(texts)
            well = True
        except (UnfitText, HardTexts):
            well = True  # it answers
            raise
        except ProviderDown as error:
            self._why = str(error)
            raise
        finally:
            self._breaker.done(ticket, well)
        return found

    def _tried(self, texts: list[str]) -> list[Vector]:
        """A call, and another one to know whether it failed by its texts."""
        try:
            return self._call(texts)
        except _Failed as error:
            failed = error
        try:
            self._call([PLAIN])
        except _Failed as error:
            raise ProviderDown(str(error)) from None
        raise (UnfitText if failed.refused else HardTexts)(str(failed))

    def _call(self, texts: list[str]) -> list[Vector]:
        """`ProviderDown` where no text did it, else `_Failed`: whatever goes wrong is one of both.

        No error is chained: what it says may be of the answer.
        """
        import httpx

        sound = [one.encode("utf-8", "replace").decode() for one in texts]  # no lone surrogates
        body = json.dumps({"model": self._model, "input": sound}).encode()
        most = OTHER_BYTES + NUMBER_BYTES * self.dimension * len(texts)
        try:
            status, answer = self._posts.ask(body, most)
        except (httpx.ConnectError, RuntimeError) as error:
            raise ProviderDown(type(error).__name__) from None
        except Exception as error:
            raise _Failed(type(error).__name__) from None
        if status in UNFIT or status >= BROKEN:
            raise _Failed(f"it answers {status}", status in UNFIT)
        if status != DONE:
            raise ProviderDown(f"it answers {status}")
        try:
            by_index = {one["index"]: one["embedding"] for one in json.loads(answer)["data"]}
            return [self._vector(by_index[k]) for k in range(len(texts))]
        except _Failed:
            raise
        except Exception as error:  # JSON can be wrong in many ways: too deep, a number too large
            raise _Failed(f"no answer of /v1/embeddings: {type(error).__name__}") from None

    def _vector(self, numbers: Any) -> Vector:
        vector = np.array(numbers, np.float64)
        if vector.shape != (self.dimension,):
            raise _Failed(f"vectors of {vector.shape} numbers, {self.dimension} are set")
        return unit(vector)
