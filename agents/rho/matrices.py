"""Commits and reads of ρ: PostgreSQL first, then Redis.

What a reader sees:

- Only what was committed, whole: an envelope is one value in either store, with its CRC.
- Once a commit is answered, and `cached` with it, every later read gives its version or a newer
  one, as long as Redis keeps what it was given (no failover that loses writes, no eviction).
- A commit that Redis didn't take is answered all the same (`cached` false): PostgreSQL has it.
  Reads that Redis answers may then give an older version, for `ttl_s` at most: so long Redis keeps
  an envelope (far longer than a read takes), and no read prolongs it. The same holds between the
  two steps of a commit.
- `min_version` is never undercut: where Redis is older PostgreSQL is asked, and where that is older
  too, the answer says so. Whoever has seen a version (an answer, a rho.status) can insist on it.
- Where Redis doesn't answer or has nothing, PostgreSQL gives the newest; where PostgreSQL doesn't,
  Redis goes on answering.
- Keys of one commit change together in either store, but two reads are two moments.

Where PostgreSQL went back in time (a backup), its version numbers are given again, and Redis may
still have what is lost, for `ttl_s` at most:

- A version isn't known by its number alone, but by it and the CRC of its envelope. Of the same
  number with another CRC, what is committed now replaces what Redis has.
- What Redis has of a greater number is judged by PostgreSQL, asked after it (what Redis has was
  committed before): where that is behind, it is lost, and goes.
- Who was given what is lost, and hands its CRC back (`expected_crc`), commits nothing on top of
  it. Without, the number decides: a version that was given again is taken for the one that was
  read. Where PostgreSQL is behind what the commit expects, it says that too (`lost`).
"""

import hashlib
import json
import logging
import platform
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.rho import envelope as envelopes
from agents.rho.envelope import BadEnvelope, Envelope
from agents.rho.law import (
    TRACE,
    Checked,
    IdempotencyMismatch,
    InvariantViolation,
    Ok,
    Unavailable,
    VersionConflict,
    check,
    trace_error,
)
from agents.settings import Settings
from stores.errors import StoreDown
from stores.matrix_cache import MatrixCache
from stores.matrix_store import Conflict, MatrixStore, OtherCommitError, Write
from stores.outbox_types import Event

STATUS = "rho.status"
KEY = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$"
KEYS_MAX = 16  # of one commit
EXPECTED_MAX = envelopes.VERSION_MAX - 1
DOWN_S = 1.0  # how long nobody asks a Redis that didn't answer

Source = Literal["redis", "postgres"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A matrix that is to follow the version `expected` of its key (0: it must be the first), and
    only the one of `expected_crc` (`envelope.crc_of`), if that is given.
    """

    key: str
    expected: int
    matrix: NDArray[np.float64]
    expected_crc: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Proposals that the law takes, as stores want them; the digest tells commits apart."""

    writes: list[Write]
    digest: bytes
    trace_error: float  # the largest


@dataclass(frozen=True, slots=True)
class Committed:
    """`Ok`, and whether Redis has it."""

    ok: Ok
    cached: bool


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A matrix that was read: `data` is its whole envelope."""

    envelope: Envelope
    data: bytes
    source: Source

    @property
    def crc(self) -> str:
        """What a commit on top of it may hand back."""
        return envelopes.crc_of(self.data)


@dataclass(frozen=True, slots=True)
class Behind:
    """There is only an older version than the reader insists on; 0: none."""

    current: int


Refused = VersionConflict | IdempotencyMismatch | Unavailable


def prepare(
    tenant: str, proposals: Sequence[Proposal], dimension_max: int
) -> Prepared | InvariantViolation:
    """Check and pack: all the arithmetic of a commit, for a thread to do.

    The digest is of keys, expected versions and matrices, in the order of their keys.
    """
    digest, writes, worst = hashlib.sha256(), [], 0.0
    now, node = time.time_ns() // 1000, platform.node()
    for one in sorted(proposals, key=lambda proposal: proposal.key):
        found = check(one.matrix, dimension_max)
        if isinstance(found, InvariantViolation):
            return InvariantViolation(found.which, found.detail, one.key)
        version = one.expected + 1
        data = envelopes.pack(one.matrix, version)
        crc = envelopes.packed_crc(one.expected_crc) if one.expected_crc else None
        digest.update(f"{one.key}\x1f{version}\x1f".encode() + data)
        event = _event(tenant, one, found, (node, now))
        writes.append(Write(one.key, one.expected, data, event, crc))
        worst = max(worst, found.trace_error)
    return Prepared(writes, digest.digest(), worst)


class Matrices:
    """Commits and reads, in one event loop; without a cache all reads are PostgreSQL's.

    `degraded`: the last read or commit was without Redis. `psd_ok`, `trace_error`: of the matrix
    that was committed or read last; one that is damaged where it is kept isn't `psd_ok`.
    """

    def __init__(self, store: MatrixStore, cache: MatrixCache | None, ttl_s: float) -> None:
        self._store, self._cache, self._ttl_s = store, cache, ttl_s
        self._down_until = 0.0
        self.degraded = cache is None
        self.psd_ok: bool | None = None  # nothing yet
        self.trace_error: float | None = None

    async def commit(
        self, tenant: str, prepared: Prepared, idempotency_key: str | None
    ) -> Committed | Refused:
        """Commit all or none. `TooManyPending` where the tenant's outbox is full."""
        try:
            done = await self._store.commit(
                tenant, prepared.writes, prepared.digest, idempotency_key
            )
        except OtherCommitError:
            return IdempotencyMismatch()
        except StoreDown as error:
            return Unavailable(str(error))
        if isinstance(done, Conflict):
            lost = done.current <= done.expected
            if lost:
                await self._look_again(tenant, done.key)
            return VersionConflict(done.key, done.current, lost)
        self.psd_ok, self.trace_error = True, prepared.trace_error
        # Of a repeated one there may be newer versions by now, and Redis may have lost these.
        data = {one.key: one.envelope for one in prepared.writes}
        cached = not done.repeated and await self._put(tenant, data)
        crcs = {key: envelopes.crc_of(envelope) for key, envelope in data.items()}
        return Committed(Ok(done.versions, done.repeated, crcs), cached)

    async def read(self, tenant: str, key: str, min_version: int = 0) -> Held | Behind:
        """The matrix, at `min_version` or newer. `StoreDown`; `BadEnvelope` where it is damaged in
        PostgreSQL: that is for a backup to mend.
        """
        held = await self._cached(tenant, key)
        if held is not None and held.envelope.version >= min_version:
            return self._seen(held)
        row = await self._store.read(tenant, key)
        if row is None or row[0] < min_version:
            if held is not None:
                await self._judge(tenant, key, held.data)
            return Behind(0 if row is None else row[0])
        try:
            found = envelopes.unpack(row[1])
        except BadEnvelope:
            self.psd_ok = False
            raise
        await self._put(tenant, {key: row[1]})
        return self._seen(Held(found, row[1], "postgres"))

    def _seen(self, held: Held) -> Held:
        self.trace_error = trace_error(held.envelope.matrix)
        self.psd_ok = self.trace_error <= TRACE  # it was PSD when it came, and its CRC is right
        return held

    async def _cached(self, tenant: str, key: str) -> Held | None:
        if (cache := self._asked()) is None:
            return None
        try:
            data = await cache.get(tenant, key)
        except StoreDown as error:
            self._went(error)
            return None
        self._came()
        if data is None:
            return None
        try:
            return Held(envelopes.unpack(data), data, "redis")
        except BadEnvelope as error:
            logger.warning("A matrix in Redis is dropped: %s", error)
            with suppress(StoreDown):
                await cache.drop(tenant, key, data)
            return None

    async def _put(self, tenant: str, data: dict[str, bytes]) -> bool:
        """Whether Redis has them now, or newer ones that PostgreSQL knows."""
        newer = await self._given(tenant, data)
        if not newer:
            return newer is not None
        lost = [key for key, head in newer.items() if await self._judge(tenant, key, head)]
        return not lost or await self._given(tenant, {key: data[key] for key in lost}) == {}

    async def _given(self, tenant: str, data: dict[str, bytes]) -> dict[str, bytes] | None:
        """The heads of newer ones that stay there; None: Redis doesn't answer."""
        if (cache := self._asked()) is None:
            return None
        try:
            newer = await cache.put(tenant, data, self._ttl_s)
        except StoreDown as error:
            self._went(error)
            return None
        self._came()
        return newer

    async def _look_again(self, tenant: str, key: str) -> None:
        """Somebody was given a version that PostgreSQL doesn't have: perhaps by Redis."""
        if (held := await self._cached(tenant, key)) is not None:
            await self._judge(tenant, key, held.data)

    async def _judge(self, tenant: str, key: str, found: bytes) -> bool:
        """Whether what Redis has (its head will do) is lost in PostgreSQL; then it is dropped."""
        try:
            row = await self._store.head(tenant, key)
        except StoreDown:
            return False  # nobody knows
        version, now = envelopes.version_of(found), envelopes.version_of(row) if row else 0
        if now > version or row == found[: envelopes.HEADER_BYTES]:
            return False
        said = "Redis has version %d of the matrix %s of %s, and PostgreSQL is at %d: it went back "
        logger.warning(said + "in time (ops/RESTORE.md)", version, key, tenant, now)
        if (cache := self._asked()) is not None:
            with suppress(StoreDown):
                await cache.drop(tenant, key, found)
        return True

    def _asked(self) -> MatrixCache | None:
        """The cache, unless it didn't answer just now."""
        return None if time.monotonic() < self._down_until else self._cache

    def _went(self, error: StoreDown) -> None:
        if not self.degraded:
            logger.warning("ρ is read from PostgreSQL alone: %s", error)
        self.degraded, self._down_until = True, time.monotonic() + DOWN_S

    def _came(self) -> None:
        if self.degraded:
            logger.info("ρ is read from Redis again")
        self.degraded = False


@asynccontextmanager
async def opened(settings: Settings, name: str) -> AsyncIterator[Matrices]:
    """The installation's matrices, over connections that PostgreSQL knows as `name`. None is made
    yet, so neither store need be there.
    """
    given = settings.rho
    store = await MatrixStore.open(settings.postgres(), settings.namespace, name, given.connections)
    url = settings.redis_url.get_secret_value()
    cache = MatrixCache(url, settings.redis_key) if url else None
    try:
        yield Matrices(store, cache, given.cache_s)
    finally:
        await store.close()
        if cache is not None:
            await cache.close()


def _event(tenant: str, one: Proposal, found: Checked, by: tuple[str, int]) -> Event:
    """The rho.status of a version. Its key is its own: it is told in the commit's transaction."""
    record = {
        "key": one.key, "tenant": tenant, "version": one.expected + 1, "psd_ok": True,
        "trace_error": found.trace_error, "lowest": found.lowest,
        "dimension": one.matrix.shape[0], "node_id": by[0], "ts": by[1],
    }  # fmt: skip
    return Event(STATUS, tenant, json.dumps(record), f"rho:{uuid.uuid4().hex}", one.key)
