"""Record batches that lie behind a right CRC: the broker refuses them, or we bury them whole."""

import asyncio
import struct
from random import Random

import cramjam
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.record.util import calc_crc32c

from agents.settings import Settings
from ops.prove.partitions import home
from tests.live.bad_input.conftest import Bed
from tests.live.evidence import UPDATES, Row, fresh_tenant
from tests.live.helpers import PARTITIONS, eventually

HEADER = struct.Struct(">qiibIhiqqqhii")  # Kafka protocol guide, record batch, magic 2
GZIP, LZ4, ZSTD = 1, 3, 4
MIB = 1 << 20
RESIDENT_MORE_MAX = 400 * MIB  # what burying a bomb may cost a worker


class Crafted:
    """Stands in for aiokafka's BatchBuilder with bytes of our own making."""

    def __init__(self, data: bytes, count: int) -> None:
        self.data, self.count = data, count

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        """Closed from the start."""

    def size(self) -> int:
        return len(self.data)

    def record_count(self) -> int:
        return self.count

    def _set_producer_state(self, *_: int) -> None:
        """No producer id: not idempotent."""

    def _build(self) -> bytes:
        return self.data


def varint(number: int) -> bytes:
    """Zigzag, as Kafka's records have it."""
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def record(delta: int, key: bytes, value: bytes) -> bytes:
    """One record without headers."""
    body = b"\0\0" + varint(delta) + varint(len(key)) + key + varint(len(value)) + value + b"\0"
    return varint(len(body)) + body


def batch(records: bytes, count: int, codec: int = 0, last: int | None = None) -> bytes:
    """A batch with a right CRC around these bytes, whatever they are."""
    delta = count - 1 if last is None else last
    header = HEADER.pack(0, 49 + len(records), -1, 2, 0, codec, delta, 0, 0, -1, -1, -1, count)
    whole = bytearray(header + records)
    struct.pack_into(">I", whole, 17, calc_crc32c(bytes(whole[21:])))
    return bytes(whole)


async def _write(settings: Settings, partition: int, batches: list[tuple[bytes, int]]) -> list[int]:
    """Produce each batch; its base offset, or -1 where the broker refused it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap(), acks="all", max_request_size=2 * MIB,
        request_timeout_ms=60_000,
    )  # fmt: skip
    await producer.start()
    offsets = []
    try:
        for data, count in batches:
            crafted = Crafted(data, count)
            try:
                sent = await producer.send_batch(
                    crafted, settings.topic(UPDATES), partition=partition
                )
                offsets.append((await sent).offset)
            except KafkaError:
                offsets.append(-1)
    finally:
        await producer.stop()
    return offsets


def write(bed: Bed, tenant: str, batches: list[tuple[bytes, int]]) -> list[int]:
    """Write batches between good records of the tenant, which all must be folded."""
    partition = home(tenant, PARTITIONS)
    row: list[Row] = [(partition, tenant.encode(), bed.good(UPDATES, tenant), [])]
    bed.sender.send(UPDATES, row)
    offsets = asyncio.run(_write(bed.settings, partition, batches))
    bed.sender.send(UPDATES, [(partition, tenant.encode(), bed.good(UPDATES, tenant), [])])
    return offsets


def letter(bed: Bed, partition: int, offset: int, data: bytes) -> None:
    """The whole batch must be a dead letter: its records as they came, the reason `bad_batch`."""
    origin = f"{bed.settings.topic(UPDATES)}/{partition}/{offset}".encode()

    def there() -> bool:
        bed.evidence.look()
        return origin in bed.evidence.letters

    eventually(there, 60.0, f"the dead letter of {origin!r}")
    (found,) = bed.evidence.letters[origin]
    assert found.header("soma-reason") == b"bad_batch"
    assert found.value is not None and found.value[61:] == data[61:]


def bomb(codec: int, size: int) -> bytes:
    """One record whose value is `size` zeros, compressed into a few kilobytes."""
    head = b"\0\0" + varint(0) + varint(1) + b"k" + varint(size)
    start = varint(len(head) + size + 1) + head
    chunk = bytes(16 * MIB)
    if codec == ZSTD:
        body = bytes(cramjam.zstd.compress(chunk)) * (size // len(chunk))
        frames = bytes(cramjam.zstd.compress(start)) + body + bytes(cramjam.zstd.compress(b"\0"))
        return batch(frames, 1, codec)
    packer = cramjam.gzip.Compressor(level=9)
    packer.compress(start)
    for _ in range(size // len(chunk)):
        packer.compress(chunk)
    packer.compress(b"\0")
    return batch(bytes(packer.finish()), 1, codec)


@pytest.mark.parametrize(("codec", "size"), [(ZSTD, 2032 * MIB), (GZIP, 512 * MIB)])
def test_a_batch_that_unpacks_to_gigabytes(bed: Bed, codec: int, size: int) -> None:
    tenant, process = fresh_tenant(), psutil.Process(bed.worker.pid)
    before, data = process.memory_info().rss, bomb(codec, size)
    (offset,) = write(bed, tenant, [(data, 1)])
    bed.evidence.await_outputs(UPDATES, tenant, 2)
    if offset >= 0:
        letter(bed, home(tenant, PARTITIONS), offset, data)
    assert bed.worker.alive
    assert process.memory_info().rss - before < RESIDENT_MORE_MAX


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
def test_a_batch_that_does_not_unpack(bed: Bed, codec: int) -> None:
    tenant = fresh_tenant()
    data = batch(b"no such frame" * 50, 1, codec)
    (offset,) = write(bed, tenant, [(data, 1)])
    bed.evidence.await_outputs(UPDATES, tenant, 2)
    if offset >= 0:
        letter(bed, home(tenant, PARTITIONS), offset, data)
    assert bed.worker.alive


def mutated(random: Random, tenant: str, bed: Bed) -> tuple[bytes, int]:
    """A batch of good records with a few bytes changed, and sometimes a count that lies."""
    count = random.randrange(1, 12)
    records = bytearray(
        b"".join(
            record(delta, tenant.encode(), bed.good(UPDATES, tenant)) for delta in range(count)
        )
    )
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(records))
        kind = random.randrange(3)
        if kind == 0:
            records[at] = random.randrange(256)
        elif kind == 1:
            records[at] ^= 1 << random.randrange(8)
        else:
            del records[at]
    said = count if random.random() < 0.8 else random.randrange(1, 40)
    last = said - 1 if random.random() < 0.9 else random.randrange(0, 60)
    codec = random.choice((0, 0, LZ4))
    body = bytes(records)
    if codec == LZ4:
        packer = cramjam.lz4.Compressor(level=1, block_linked=False)
        packer.compress(body)
        body = bytes(packer.finish())
    return batch(body, said, codec, last), last + 1


def ends(bed: Bed) -> set[tuple[int, int]]:
    """Places of all updates so far that became a frame or a dead letter."""
    bed.evidence.look()
    start = f"{bed.settings.topic(UPDATES)}/".encode()
    origins = [origin for origin, found in bed.evidence.letters.items() if found]
    dead = [origin.removeprefix(start) for origin in origins if origin.startswith(start)]
    places = {(int(number), int(offset)) for number, offset in (end.split(b"/") for end in dead)}
    frames = bed.evidence.frame_offsets
    return places | {(number, offset) for number in frames for offset in frames[number]}


def buried(bed: Bed, partition: int, base: int) -> bool:
    """Whether the batch that begins here is a dead letter as a whole."""
    origin = f"{bed.settings.topic(UPDATES)}/{partition}/{base}".encode()
    letters = bed.evidence.letters[origin]
    return any(found.header("soma-reason") == b"bad_batch" for found in letters)


def test_mutated_batches_never_break_a_worker_and_nothing_of_them_is_lost(bed: Bed) -> None:
    """Each record of a batch that the broker took comes to something: a frame, a dead letter, its
    whole batch a dead letter, or (its key or tenant was hit) one more record at its new home."""
    random, tenant = Random(5), fresh_tenant()
    partition = home(tenant, PARTITIONS)
    before = ends(bed)
    batches = [mutated(random, tenant, bed) for _ in range(300)]
    offsets = write(bed, tenant, batches)
    sizes = [size for _, size in batches]
    taken = [(base, n) for base, n in zip(offsets, sizes, strict=True) if base >= 0]
    assert len(taken) > 30, "the broker refused nearly all: nothing was tested"
    inside = {(partition, base + delta) for base, n in taken for delta in range(n)}

    def open_ends() -> tuple[int, int]:
        """Records of the batches without an end of their own; ends of other places."""
        now = ends(bed) - before
        whole = {
            (partition, base + delta)
            for base, n in taken
            if buried(bed, partition, base)
            for delta in range(n)
        }
        return len(inside - now - whole), len(now - inside)

    around = 2  # the good records before and behind
    eventually(
        lambda: (ends := open_ends())[0] + around == ends[1],
        60.0,
        "as many records elsewhere as went astray",
    )
    assert bed.worker.alive
