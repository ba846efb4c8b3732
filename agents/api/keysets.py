"""The keys that tokens are signed with (JWKS), from a file or a URL; cached, fetched rarely."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FRESH_S = 300.0  # how long keys are used without a look whether there are others
AGAIN_S = 10.0  # between two fetches, whatever key ids tokens name
STALE_S = 24 * 3600.0  # how long old keys serve while their source doesn't answer
FETCH_S = 3.0
BYTES_MAX = 256 * 1024
KEYS_MAX = 100
RSA_BITS_MIN = 2048

logger = logging.getLogger(__name__)


class KeysError(Exception):
    """The keys can't be had; the text says why and holds no key."""


def keys_of(text: str | bytes) -> dict[str, RSAPublicKey]:
    """key id -> RSA key, of a JWKS' keys for RS256 signatures. `KeysError` if there is none."""
    try:
        listed = json.loads(text)["keys"]
        given = [one for one in listed if isinstance(one, Mapping)][:KEYS_MAX]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeysError('no JWKS: an object with a list "keys" is wanted') from None
    found: dict[str, RSAPublicKey] = {}
    for one in given:
        if one.get("kty") != "RSA" or one.get("use", "sig") != "sig":
            continue
        if one.get("alg", "RS256") != "RS256" or "d" in one:
            continue
        try:
            key = jwt.PyJWK(dict(one), algorithm="RS256").key
        except (jwt.PyJWTError, ValueError, TypeError):
            logger.warning("A key of the JWKS can't be read and isn't used")
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
            found[str(one.get("kid", ""))] = key
    if not found:
        raise KeysError(f"no RSA key of at least {RSA_BITS_MIN} bits for RS256 in the JWKS")
    return found


class KeySet:
    """Keys by id. A URL that fails leaves the old keys in use for a day."""

    def __init__(
        self,
        url: str = "",
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._file, self._clock = url, file, clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._got_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self.fetches = 0

    async def key(self, kid: str | None) -> RSAPublicKey | None:
        """The key of this id (without one: the only key there is); None if it isn't there.

        `KeysError` if there are no keys at all.
        """
        if kid not in self._keys or self._clock() - self._got_at > FRESH_S:
            await self._refresh(kid)
        if self._clock() - self._got_at > STALE_S:
            raise KeysError("the keys for tokens can't be fetched")
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _refresh(self, kid: str | None) -> None:
        async with self._lock:
            now = self._clock()
            known = kid in self._keys or (kid is None and bool(self._keys))
            if (known and now - self._got_at <= FRESH_S) or now - self._tried_at < AGAIN_S:
                return
            self._tried_at = now
            self.fetches += 1
            try:
                self._keys = keys_of(await self._text())
                self._got_at = self._clock()
            except (KeysError, httpx.HTTPError, OSError) as error:
                what = error if isinstance(error, KeysError) else type(error).__name__
                logger.warning("The keys for tokens can't be fetched: %s", what)

    async def _text(self) -> bytes:
        if self._file is not None:
            return await asyncio.to_thread(_start_of, self._file)
        async with (
            httpx.AsyncClient(timeout=FETCH_S, follow_redirects=False, trust_env=False) as client,
            asyncio.timeout(2 * FETCH_S),
            client.stream("GET", self._url) as answer,
        ):
            if answer.status_code != 200:
                raise KeysError(f"answered with status {answer.status_code}")
            data = b""
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > BYTES_MAX:
                    raise KeysError(f"more than {BYTES_MAX} bytes")
            return data


def _start_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        data = stream.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise KeysError(f"more than {BYTES_MAX} bytes")
    return data


def claims_of(token: str, key: Any, algorithm: str, **options: Any) -> dict[str, Any]:
    """The verified claims; `jwt.PyJWTError` says what is wrong. Only `algorithm` is accepted."""
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm], **options)
    return claims
