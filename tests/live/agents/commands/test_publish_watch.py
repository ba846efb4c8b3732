"""JSON lines in, decoded records out, on a real Kafka."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from agents.settings import Settings
from agents.tools.reader import TopicReader
from tests.live.helpers import REPO, environment, eventually, produce, read, soma
from topics import codec
from topics.partition import partition_of
from topics.reading import TopicAndPartition, ends_of

PARTITIONS = 4  # some are named
MADE = ("cog.global.frame", "cog.observations", "cog.observations.dlq")

TOPIC = "cog.observations"


def line(tenant: str = "cpu", **more: object) -> str:
    record = {"tenant": tenant, "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1, 2]}
    return json.dumps(record | more)


def publish(
    settings: Settings, lines: Sequence[str], *words: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agents.cli", "publish", TOPIC, *words],
        env=environment(settings),
        cwd=REPO,
        input="".join(one + "\n" for one in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def watch(settings: Settings, topic: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return soma(
        "watch", topic, "--from", "beginning", "--no-follow", *words, env=environment(settings)
    )


def test_what_is_published_is_watched(topics: Settings) -> None:
    tenants = [f"t{k}" for k in range(20)]
    done = publish(topics, [line(t, vector=[k, 0.5]) for t in tenants for k in range(3)], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "topic": TOPIC, "lines": 60, "delivered": 60, "failed": 0, "unanswered": 0,
    }  # fmt: skip
    for message in read(topics, TOPIC):
        assert message.partition() == partition_of(message.key() or b"", 4)
        assert codec.decode(message.value() or b"")[1]["tenant"].encode() == message.key()
    shown = watch(topics, TOPIC, "--tenant", "t7")
    assert shown.returncode == 0
    records = [json.loads(one) for one in shown.stdout.splitlines()]
    assert [record["vector"] for record in records] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert records[0]["ts"] == "2026-01-31T12:00:00Z"


def test_bad_lines_are_named_and_good_ones_go(topics: Settings) -> None:
    lines = [
        line("a"),
        "no json",
        line("b", vector="x"),
        "",
        line("c", colour="red"),
        '{"tenant":"d","domain":"state","vector":[1]}',
        line("e", ts="yesterday"),
        "[1, 2]",
        line("f", vector=[float("nan")]),
        line("z z"),
        line("h", domain="", vector=[], ts="1026-01-01T00:00:00Z"),
        line("g"),
    ]
    done = publish(topics, lines)
    assert done.returncode == 1
    said = [text.partition(": ") for text in done.stderr.splitlines()]
    wrong = {name: what for name, _, what in said if name.startswith("line ")}
    assert list(wrong) == [f"line {n}" for n in (2, 3, 5, 6, 7, 8, 9, 10, 11)]
    words = {
        "line 3": "vector",
        "line 5": "colour",
        "line 6": "ts: missing",
        "line 7": "ISO 8601",
        "line 9": "NaN",
        "line 10": "tenant: 'z z'",
        "line 11": "domain: '' isn't 1-128 of A-Za-z0-9._-; ts: 1026-01-01",
    }
    for name, word in words.items():
        assert word in wrong[name]
    assert "2 of 11 records delivered" in done.stderr
    assert sorted(message.key() or b"" for message in read(topics, TOPIC)) == [b"a", b"g"]


def test_a_line_beyond_the_limit_is_named(topics: Settings) -> None:
    big, wide = line("big", vector=[0.1] * 400_000), line("wide") + 1_040_000 * " "
    done = publish(topics, [line("a"), big, wide])
    assert done.returncode == 1
    assert "line 2: longer than 1048576 bytes" in done.stderr
    assert "2 of 3 records delivered" in done.stderr


def test_now_gives_the_present_time(topics: Settings) -> None:
    done = publish(topics, ['{"tenant":"d","domain":"state","vector":[1]}', line("e")], "--now")
    assert done.returncode == 0, done.stderr
    stamps = {m.key(): codec.decode(m.value() or b"")[1]["ts"] for m in read(topics, TOPIC)}
    assert stamps[b"e"] == 1_769_860_800_000_000
    assert stamps[b"d"] > stamps[b"e"]


def test_a_key_of_ones_own(topics: Settings) -> None:
    assert publish(topics, [line("a", domain="d9")], "--key-field", "domain").returncode == 0
    assert [message.key() for message in read(topics, TOPIC)] == [b"d9"]
    done = publish(topics, [line("a")], "--key-field", "vector")
    assert done.returncode == 1
    assert "line 1: 'vector' is no text field" in done.stderr


def test_a_rate_is_kept(topics: Settings) -> None:
    start = time.monotonic()
    assert publish(topics, [line()] * 20, "--rate", "20").returncode == 0
    assert time.monotonic() - start >= 0.95


def test_the_topics_must_be_there(settings: Settings) -> None:
    done = publish(settings, [line()])
    assert done.returncode == 1
    assert "soma topics apply" in done.stderr


def test_watch_shows_plain_json_bad_bytes_and_tombstones(topics: Settings) -> None:
    produce(
        topics,
        TOPIC,
        [(b"a", line("a").encode()), (b"b", b"\xff\xfe"), (None, None), (b"c", b'{"tenant":1}')],
        partition=2,
    )
    plain = watch(topics, TOPIC)
    assert plain.returncode == 0
    shown = [json.loads(one) for one in plain.stdout.splitlines()]
    assert shown[0]["tenant"] == "a"
    assert shown[1]["record"] is None and shown[1]["offset"] == 2
    errors = plain.stderr.splitlines()
    assert errors[0].startswith("cog.observations partition 2 offset 1: bad_wire_format")
    assert errors[1].startswith("cog.observations partition 2 offset 3: bad_json")
    whole = [json.loads(one) for one in watch(topics, TOPIC, "--json").stdout.splitlines()]
    assert [one["offset"] for one in whole] == [0, 1, 2, 3]
    assert [("error" in one) for one in whole] == [False, True, False, True]
    assert "partition 2 offset 0" in watch(topics, TOPIC, "--pretty").stdout


def test_watch_shows_dead_letters_with_their_reason(topics: Settings) -> None:
    producer = Producer(topics.librdkafka())
    headers: list[tuple[str, str | bytes | None]] = [("soma-reason", "bad_avro")]
    for value in (b"text", b"\x00\xff"):
        producer.produce(
            topics.topic(f"{TOPIC}.dlq"), key=b"k", value=value, headers=headers, partition=0
        )
    producer.flush(20)
    shown = [json.loads(one) for one in watch(topics, f"{TOPIC}.dlq").stdout.splitlines()]
    assert [one["record"]["value"] for one in shown] == ["text", "base64:AP8="]
    assert shown[0]["headers"] == {"soma-reason": "bad_avro"}


def test_a_letter_of_a_record_shows_the_record(topics: Settings) -> None:
    producer = Producer(topics.librdkafka())
    headers: list[tuple[str, str | bytes | None]] = [("soma-reason", "ts_range")]
    record = codec.from_json("observation", json.loads(line("a", ts="1026-01-01T00:00:00Z")))
    avro = codec.encode("observation", record)
    for value in (avro, line("b").encode(), b'{"tenant":'):
        producer.produce(topics.topic(f"{TOPIC}.dlq"), value=value, headers=headers, partition=0)
    producer.flush(20)
    for words in ((), ("--json",)):
        done = watch(topics, f"{TOPIC}.dlq", *words)
        first, second, third = [json.loads(one) for one in done.stdout.splitlines()]
        assert (first["schema"], first["record"]["tenant"]) == ("observation", "a")
        assert first["record"]["ts"] == "1026-01-01T00:00:00Z"
        assert first["headers"] == {"soma-reason": "ts_range"}
        assert second["record"]["tenant"] == "b"
        assert (third["schema"], third["record"]) == (None, {"value": '{"tenant":'})


def test_control_records_are_marked_among_others(topics: Settings) -> None:
    told = soma("config", "set", "a", "cpd", "off", "--direct", env=environment(topics))
    assert told.returncode == 0
    (shown,) = [json.loads(one) for one in watch(topics, "cog.global.frame").stdout.splitlines()]
    assert (shown["schema"], shown["setting"]) == ("control_setting", "cpd")


def test_watch_never_shows_what_was_aborted(topics: Settings) -> None:
    producer = Producer(topics.librdkafka(transactional_id=topics.prefix("watch-test")))
    producer.init_transactions(20)
    for name, end in (("a", producer.commit_transaction), ("b", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topics.topic(TOPIC), key=b"k", value=line(name).encode(), partition=0)
        producer.flush(20)
        end(20)
    shown = watch(topics, TOPIC)
    assert [json.loads(one)["tenant"] for one in shown.stdout.splitlines()] == ["a"]


def test_watch_follows_until_ctrl_c(topics: Settings) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "watch", TOPIC, "--from", "beginning"],
        env=environment(topics),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        publish(topics, [line("first")])
        assert json.loads(watching.stdout.readline())["tenant"] == "first"
        publish(topics, [line("second")])
        assert json.loads(watching.stdout.readline())["tenant"] == "second"
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=30)
        assert (watching.returncode, complaint) == (0, "")
    finally:
        watching.kill()


def test_watch_stops_after_a_count_and_at_an_offset(topics: Settings) -> None:
    publish(topics, [line("a", vector=[k]) for k in range(10)])
    shown = soma(
        "watch", TOPIC, "--from", "4", "--tenant", "a", "--count", "3", env=environment(topics)
    )
    assert [json.loads(one)["vector"] for one in shown.stdout.splitlines()] == [[4.0], [5.0], [6.0]]


def test_an_offset_that_is_not_there_yet_is_waited_for(topics: Settings) -> None:
    """A partition that ends before it doesn't begin anew; what comes before it isn't shown."""
    where = partition_of(b"a", topics.topics_partitions)
    produce(topics, TOPIC, [(b"a", line("a", vector=[k]).encode()) for k in range(2)])
    words = ("watch", TOPIC, "--from", "3", "--tenant", "a")
    stopped = soma(*words, "--no-follow", env=environment(topics))
    assert (stopped.returncode, stopped.stdout) == (0, "")
    ends = f"{TOPIC} partition {where} ends at 2, before offset 3: "
    assert ends + "nothing of it is shown" in stopped.stderr
    watching = subprocess.Popen(
        [sys.executable, "-m", "agents.cli", *words, "--count", "2"],
        env=environment(topics), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert watching.stderr is not None
        while ends + "waiting for it" not in watching.stderr.readline():
            pass
        produce(topics, TOPIC, [(b"a", line("a", vector=[k]).encode()) for k in range(2, 6)])
        shown, _ = watching.communicate(timeout=30)
    finally:
        watching.kill()
    assert [json.loads(one)["vector"] for one in shown.splitlines()] == [[3.0], [4.0]]


def lag(reader: TopicReader, place: TopicAndPartition) -> tuple[int, int]:
    """Where a partition ends, and how much of it a reader hasn't read: markers count."""
    consumer = reader._consumer
    end = ends_of(consumer, [place])[place]
    (at,) = consumer.position([TopicPartition(*place)])
    return end, end - max(at.offset, 0)


def test_markers_of_transactions_count_as_read(topics: Settings) -> None:
    """Who waits for an offset behind the end has read all there is after a commit's marker, too."""
    where = partition_of(b"a", topics.topics_partitions)
    producer = Producer(topics.librdkafka(transactional_id=topics.prefix("watch-test")))
    producer.init_transactions(20)

    def commit(k: int) -> None:
        producer.begin_transaction()
        value = line("a", vector=[k]).encode()
        producer.produce(topics.topic(TOPIC), key=b"a", value=value, partition=where)
        producer.commit_transaction(20)

    reader, place = TopicReader(topics, TOPIC, "3", of="a"), (topics.topic(TOPIC), where)
    try:
        commit(0)  # offset 0, and its marker 1
        eventually(lambda: not reader.read() and lag(reader, place) == (2, 0))
        commit(2)  # offset 2 isn't wanted either, and its marker is 3: nothing is left to show
        eventually(lambda: not reader.read() and lag(reader, place) == (4, 0))
        commit(4)
        shown = eventually(reader.read)
        assert [message.offset() for message in shown] == [4]
        eventually(lambda: not reader.read() and lag(reader, place) == (6, 0))
    finally:
        reader.close()


def test_an_offset_that_is_gone_is_named(topics: Settings) -> None:
    where = partition_of(b"a", topics.topics_partitions)
    produce(topics, TOPIC, [(b"a", line("a", vector=[k]).encode()) for k in range(9)])
    name = topics.topic(TOPIC)
    admin = AdminClient(topics.librdkafka())  # an answer comes while it lives
    asked = admin.delete_records([TopicPartition(name, where, 5)])
    assert [one.result(30).low_watermark for one in asked.values()] == [5]
    done = soma("watch", TOPIC, "--from", "3", "--no-follow", env=environment(topics))
    assert [json.loads(one)["vector"] for one in done.stdout.splitlines()] == [[5], [6], [7], [8]]
    assert f"{TOPIC} partition {where} begins at 5: what was before is gone" in done.stderr


def test_an_offset_beyond_kafkas_is_one_line(topics: Settings) -> None:
    done = soma("watch", TOPIC, "--from", "9223372036854775808", env=environment(topics))
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither beginning nor end nor an offset (0 to 9223372036854775807)" in done.stderr
    last = soma("watch", TOPIC, "--from", str(2**63 - 1), "--no-follow", env=environment(topics))
    assert (last.returncode, last.stdout) == (0, "")
    assert "Traceback" not in done.stderr + last.stderr


def test_watch_ends_when_its_reader_does(topics: Settings) -> None:
    publish(topics, [line("a", domain="d" * 100)] * 2000)
    command = f"{sys.executable} -m agents.cli watch {TOPIC} --from beginning --no-follow | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=environment(topics),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_observe_publishes_this_machine(topics: Settings) -> None:
    done = soma(
        "observe", "--interval", "0.05", "--count", "3", "--tenants", "cpu,disk",
        env=environment(topics),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "18 observations delivered" in done.stderr
    messages = eventually(lambda: read(topics, TOPIC))
    assert {message.key() for message in messages} == {b"cpu", b"disk"}
