"""A snapshot gives the same answers, and one that can't be trusted is refused by name."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.recall import snapshot
from agents.recall.embedding import HashedNgrams
from agents.recall.entry import Filters
from agents.recall.memories import Holding
from agents.recall.shelf import Law
from agents.recall.snapshot import RefusedError, Taken
from agents.recall.trail import mark_of
from tests.unit.agents.recall.samples import SECOND, Log

TOPIC = "memory.latest"
HOLDING = Holding(Law(1.0, 3600.0), 32, HashedNgrams(16))
TRAILS = {0: [mark_of(39, b"k", b"v", 5), mark_of(40, b"k", None, 6)]}
TAKEN = Taken(TOPIC, "id-1", {0: 41, 1: 7}, {0: 40}, time.time(), TRAILS)


def log_of(holding: Holding) -> Log:
    log, random = Log(holding), np.random.default_rng(4)
    for tenant in ("acme", "globex"):
        for k in range(90):
            log.memory(tenant, f"{k}", random.standard_normal(8), updated_ts=k * SECOND,
                       payload=f'{{"k":{k % 3},"é":"\u2028"}}', importance_raw=float(k),
                       namespace="ns", links={"0": "of"}, model_revision="m")  # fmt: skip
        log.memory(tenant, "text", payload='{"t":"hello"}')
        for k in range(0, 40, 2):
            log.head(tenant, f"{k}", namespace="ns", version=2, deleted=True)
    log.content("acme", "half", [1] * 8, version=3)
    log.head("globex", "other half", version=3, content_version=3)
    return log


def answers(log: Log) -> list[object]:
    found: list[object] = []
    for tenant, one in sorted(log.rows.tenants.items()):
        for filters in (
            Filters(),
            Filters(payload={"k": 1}, namespace="ns"),
            Filters(since=50 * SECOND),
        ):
            hits = one.by_vector(np.arange(8.0), 20, filters, 100 * SECOND, "m")
            found += [(tenant, h.entry.id, h.score, h.entry.payload, h.entry.links) for h in hits]
        found += [one.neighbours("1", None, 9), one.path("5", "1"), len(one), one.quantiles.scale]
        found += [h.entry.id for h in one.by_text("hello", 3, Filters(), 0)]
    return found


@pytest.mark.parametrize("bits", [32, 16, 8])
def test_it_gives_the_same_answers_and_goes_on(tmp_path: Path, bits: int) -> None:
    holding, path = replace(HOLDING, bits=bits), tmp_path / "in" / "one.snapshot"
    before = log_of(holding)
    assert snapshot.save(path, TAKEN, before.rows.tenants, holding) == path.stat().st_size
    after = Log(holding)
    taken, after.rows.tenants = snapshot.load(path, TOPIC, "id-1", holding)
    assert taken == TAKEN
    assert answers(after) == answers(before)
    for log in (before, after):
        log.head("acme", "half", version=3, content_version=3)
        log.content("globex", "other half", [2] * 8, version=3)
        for k in range(300, 400):
            log.memory(
                "acme", f"{k}", [k, 1, 1, 1, 1, 1, 1, 1], importance_raw=k / 7, model_revision="m"
            )
        log.gone("acme", "41")
    assert answers(after) == answers(before)
    assert after.rows.of("globex").get("other half") is not None


def test_what_cant_be_trusted_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "one.snapshot"
    log = log_of(HOLDING)

    def saved(taken: Taken = TAKEN) -> None:
        snapshot.save(path, taken, log.rows.tenants, HOLDING)

    def why(topic: str = TOPIC, id_: str = "id-1", holding: Holding = HOLDING) -> str:
        with pytest.raises(RefusedError) as raised:
            snapshot.load(path, topic, id_, holding)
        return str(raised.value)

    saved()
    assert "of another topic" in why(topic="else") and "of another topic" in why(id_="id-2")
    assert "keeps vectors otherwise" in why(holding=replace(HOLDING, bits=16))
    assert "keeps vectors otherwise" in why(holding=replace(HOLDING, provider=None))
    saved(replace(TAKEN, at=time.time() - 90_000))
    assert "25.0 h old: what was deleted since may have left no trace" in why()
    saved(replace(TAKEN, at=time.time() + 3600))
    assert "-1.0 h old" in why()
    path.write_bytes(path.read_bytes().replace(b"soma-recall-2", b"soma-recall-1", 1))
    assert "is a snapshot of another version" in why()
    with pytest.raises(FileNotFoundError):
        snapshot.load(tmp_path / "none", TOPIC, "id-1", HOLDING)


def test_no_byte_of_it_can_change_or_be_missing_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "one.snapshot"
    log = Log(HOLDING)
    log.memory("acme", "a", [1.0, 2.0], payload='{"k":1}')
    snapshot.save(path, TAKEN, log.rows.tenants, HOLDING)
    whole = path.read_bytes()
    random = np.random.default_rng(8)
    for at in (0, 17, 40, 130, len(whole) - 3, *random.integers(64, len(whole), 40).tolist()):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            _, tenants = snapshot.load(path, TOPIC, "id-1", HOLDING)
        except RefusedError:
            continue
        assert whole[at] == 0  # between two parts, where nothing is
        assert tenants["acme"].get("a") is not None
    for cut in (0, 10, 63, 64, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(RefusedError):
            snapshot.load(path, TOPIC, "id-1", HOLDING)
