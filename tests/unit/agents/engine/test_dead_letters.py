"""Dead letters: the original, why, and where from, in batches that the broker takes."""

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine import checks, reasons
from agents.engine.batches import RawBatch, raw_batch, unpack
from agents.engine.builder import HEADER
from agents.engine.dead_letters import LETTER_BYTES_MAX, DeadLetters
from agents.engine.processor import OWN_REASONS, Place
from agents.engine.workspace import Workspace
from tests.contract.harness import (
    PROCESSORS,
    Message,
    Run,
    Sent,
    batch_of,
    messages,
    plan_of,
    read,
    samples,
)  # fmt: skip
from topics.catalogue import MESSAGE_BYTES_MAX

PLAN = plan_of(PROCESSORS[0])
SPACE = Workspace(PLAN)
blobs = st.none() | st.binary(max_size=30)
originals = st.tuples(blobs, blobs, st.lists(st.tuples(st.text(max_size=5), blobs), max_size=3))


def letters_of(part: list[Message], status: int, detail: str = "") -> list[Sent]:
    """What becomes of these records if all are refused with a status."""
    batch = batch_of(part)
    run = Run(PLAN)
    letters = DeadLetters(PLAN, run.place, [batch])
    SPACE.clear()
    run.worker._parse(SPACE, [batch], 0, letters)
    SPACE.status[: SPACE.n] = status
    if detail:
        letters.details[0] = detail
    letters.add_rows(SPACE, np.arange(SPACE.n))
    assert letters.reasons == {reasons.reason(PLAN.processor, status): len(part)}
    return [sent for builder in letters.builders() for sent in read("dlq", 0, builder)]


@given(content=st.lists(originals, min_size=1, max_size=8))
@settings(deadline=None)
def test_key_value_and_headers_are_the_originals(
    content: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]],
) -> None:
    part = [Message(5 + i, *one) for i, one in enumerate(content)]
    found = letters_of(part, reasons.BAD_AVRO)
    assert [(s.key, s.value, list(s.headers[:-4])) for s in found] == content
    for message, sent in zip(part, found, strict=True):
        assert sent.headers[-4:] == (
            ("soma-reason", b"bad_avro"),
            ("soma-detail", reasons.DETAILS[reasons.BAD_AVRO].encode()),
            ("soma-origin", f"{PLAN.source}/0/{message.offset}".encode()),
            ("soma-processor", PLAN.processor.name.encode()),
        )


def test_details_are_cut_and_always_text() -> None:
    part = [Message(0, b"k", b"v"), Message(1, b"k", b"v")]
    found = letters_of(part, reasons.BAD_JSON, "\ud800é" + 1000 * "x")
    detail = dict(found[0].headers)["soma-detail"]
    assert detail is not None and detail.decode() == "?é" + 498 * "x"
    assert dict(found[1].headers)["soma-detail"] == reasons.DETAILS[reasons.BAD_JSON].encode()


def test_every_code_of_the_engine_and_of_every_processor_has_a_name() -> None:
    for processor in PROCESSORS:
        codes = [*reasons.NAMES, *(OWN_REASONS + i for i in range(len(processor.reasons)))]
        names = [reasons.reason(processor, code) for code in codes]
        assert all(names) and len(set(names)) == len(names)
        details = [reasons.detail(processor, code) for code in codes]
        assert all(details) and len(set(details)) == len(details)


def test_the_texts_name_the_limits() -> None:
    assert str(checks.NAME_MAX) in reasons.DETAILS[reasons.TENANT]
    assert str(checks.NAME_MAX) in reasons.DETAILS[reasons.DOMAIN]
    assert str(checks.STRING_MAX) in reasons.DETAILS[reasons.LONG_STRING]
    texts = {one.name: one.reasons for one in PROCESSORS}
    assert "has 16 domains" in texts["integrator"]["too_many_domains"]
    assert "domains_max allows (256" in texts["segmentation"]["too_many_domains"]


def test_many_letters_are_several_batches_in_their_order() -> None:
    part = [Message(i, b"%d" % i, bytes(100_000)) for i in range(40)]
    batch, run = batch_of(part), Run(PLAN)
    letters, space = DeadLetters(PLAN, run.place, [batch]), Workspace(PLAN)
    run.worker._parse(space, [batch], 0, letters)
    space.status[:40] = reasons.BAD_WIRE
    letters.add_rows(space, np.arange(40))
    builders = list(letters.builders())
    assert [b.record_count() for b in builders] == [8, 8, 8, 8, 8]
    found = [sent for builder in builders for sent in read("dlq", 0, builder)]
    assert [(s.key, s.value) for s in found] == [(m.key, m.value) for m in part]


def test_a_whole_batch_is_one_letter() -> None:
    letters = DeadLetters(PLAN, Place("0123abcd", 0), [])
    batch = batch_of([Message(7, b"k", b"v"), Message(9, b"k", b"v")])
    letters.add_batch(batch, "it lies")
    ((found,),) = [read("dlq", 0, builder) for builder in letters.builders()]
    assert (found.key, found.value) == (None, batch.data)
    headers = dict(found.headers)
    assert headers["soma-reason"] == b"bad_batch" and headers["soma-detail"] == b"it lies"
    assert headers["soma-origin"] == f"{PLAN.source}/0/7".encode()


def packed(part: list[Message]) -> RawBatch:
    """A batch that Zstandard packs."""
    batch = batch_of(part)
    body = bytes(cramjam.zstd.compress(unpack(batch, 1 << 24).tobytes()))
    fields = list(HEADER.unpack_from(batch.data))
    fields[1], fields[5] = HEADER.size - 12 + len(body), fields[5] & ~7 | 4
    return raw_batch(HEADER.pack(*fields) + body)


@pytest.mark.parametrize("place", ["value", "key", "headers", "tenant"])
def test_a_record_that_packs_worse_here_than_at_its_sender_goes_as_its_batch(place: str) -> None:
    # LZ4 looks 64 KiB back, Zstandard megabytes.
    noise = np.random.default_rng(1).bytes(150_000) * 20
    good = messages(PLAN, samples(PLAN.processor).records(np.random.default_rng(1), 3), first=1)
    bad = {
        "value": Message(0, b"k", noise),
        "key": Message(0, noise, b"bad"),
        "headers": Message(0, b"k", b"bad", [("h", noise)]),
        "tenant": Message(0, b"elsewhere", good[0].value, [("h", noise)]),  # too large to forward
    }[place]
    batch = packed([bad, *good])
    assert len(batch.data) < MESSAGE_BYTES_MAX < LETTER_BYTES_MAX < len(noise)
    run = Run(PLAN)
    outcome = run.worker.run(run.space, [batch], 0, lambda _: b"position")
    assert all(
        builder.size() <= (LETTER_BYTES_MAX if topic == PLAN.dlq else MESSAGE_BYTES_MAX)
        for topic, _, builder in outcome.sends
    )
    assert outcome.results["folded"] == 3 and outcome.results["dead"] == 1
    (found,) = [s for t, p, b in outcome.sends if t == PLAN.dlq for s in read(t, p, b)]
    assert found.key is None and found.value == batch.data
    headers = dict(found.headers)
    assert headers["soma-form"] == b"batch"
    assert headers["soma-origin"] == f"{PLAN.source}/0/0".encode()
    wanted = b"too_large" if place == "tenant" else b"bad_wire_format"
    assert headers["soma-reason"] == wanted


def test_a_large_record_that_packs_well_stays_a_record() -> None:
    (found,) = letters_of([Message(0, b"k", bytes(5_000_000))], reasons.BAD_WIRE)
    assert found.key == b"k" and found.value == bytes(5_000_000)
    assert "soma-form" not in dict(found.headers)
