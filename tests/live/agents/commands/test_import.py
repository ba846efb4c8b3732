"""A file becomes observations, each row exactly once: killed, interrupted, mended, grown."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from agents.settings import Settings
from tests.live.conftest import Broker
from tests.live.helpers import REPO, environment, eventually, read, soma
from topics import codec, transactions
from topics.reading import ends_of

MADE = ("cog.observations", "soma.imports")  # topics

TOPIC = "cog.observations"
START = 1_700_000_000_000  # ms


def csv_file(path: Path, rows: int, start: int = 0) -> Path:
    """A series of `rows` rows, Windows line ends: time in ms, the row's number, and a text."""
    with path.open("w" if not start else "a", newline="") as file:
        if not start:
            file.write("\ufefftime,n,note\r\n")
        for k in range(start, start + rows):
            file.write(f'{START + k},{k},"a ""note"", quoted"\r\n')
    return path


def imported(settings: Settings) -> list[float]:
    """The rows' numbers in the topic, in order."""
    values = [codec.decode(message.value() or b"")[1] for message in read(settings, TOPIC)]
    return [float(np.frombuffer(value["vector"], "<f4")[0]) for value in values]


def words(path: Path, *more: str) -> list[str]:
    return ["observe", "--csv", str(path), "--tenant", "me", "--columns", "n", *more]


def start(settings: Settings, *more: str, stdin: int | None = subprocess.DEVNULL) -> "Process":
    return subprocess.Popen(
        [sys.executable, "-m", "agents.cli", *more],
        env=environment(settings),
        cwd=REPO,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


Process = subprocess.Popen[str]


def end_of_topic(settings: Settings) -> int:
    """Offsets given out in the topic so far."""
    consumer = Consumer(settings.librdkafka(group_id="tests-end"))
    try:
        name = settings.topic(TOPIC)
        places = [
            TopicPartition(name, partition) for partition in range(settings.topics_partitions)
        ]
        return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
    finally:
        consumer.close()


def unstable(settings: Settings) -> int:
    """Offsets of the topic that committed readers can't get at: a transaction is open."""
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = Consumer(settings.librdkafka(group_id="tests", isolation_level=isolation))
        try:
            places = [
                (settings.topic(TOPIC), partition)
                for partition in range(settings.topics_partitions)
            ]
            ends.append(sum(ends_of(consumer, places).values()))
        finally:
            consumer.close()
    return ends[1] - ends[0]


def test_every_row_once_and_what_a_file_grows_by(topics: Settings, tmp_path: Path) -> None:
    path, env = csv_file(tmp_path / "series.csv", 12_000), environment(topics)
    first = soma(*words(path, "--json"), env=env)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert (summary["rows"], summary["published"], summary["complete"]) == (12_000, 12_000, True)
    record = codec.decode(read(topics, TOPIC)[7].value() or b"")[1]
    assert (record["tenant"], record["domain"]) == ("me", "state")
    assert record["ts"] == (START + 7) * 1000
    again = soma(*words(path, "--json"), env=env)
    assert json.loads(again.stdout)["rows"] == 0
    assert "12,000 rows had been read before (--again imports them anew)" in again.stderr
    csv_file(path, 5, 12_000)
    assert json.loads(soma(*words(path, "--json"), env=env).stdout)["published"] == 5
    assert imported(topics) == list(range(12_005))
    path.rename(old := tmp_path / "series.csv.1")
    csv_file(old, 1, 12_005)  # what was written before it was rotated, and isn't imported
    path.write_text("time,n\n1700000000000,1\n")
    other = soma(*words(path), env=env)
    assert other.returncode == 1 and "aren't those that were imported: it has no m" in other.stderr
    assert f"--csv OLD --renamed-from {path}" in other.stderr and "--again" in other.stderr
    assert soma(*words(old, "--renamed-from", str(path)), env=env).returncode == 0
    assert soma(*words(path, "--again"), env=env).returncode == 0
    assert imported(topics)[12_005:] == [12_005.0, 1.0]


def test_half_a_line_waits_for_its_rest(topics: Settings, tmp_path: Path) -> None:
    path, env = csv_file(tmp_path / "series.csv", 3), environment(topics)
    whole = path.read_bytes()
    path.write_bytes(whole + f"{START + 3},12".encode())
    first = soma(*words(path, "--json", "--skip-bad"), env=env)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["waiting_line"] == 5
    path.write_bytes(whole + f'{START + 3},1234,"a\nnote"\r\n{START + 4},5,"half\n'.encode())
    assert json.loads(soma(*words(path, "--json"), env=env).stdout)["published"] == 1
    path.write_bytes(whole + f'{START + 3},1234,"a\nnote"\r\n{START + 4},5,"half\n"\r\n'.encode())
    assert json.loads(soma(*words(path, "--json"), env=env).stdout)["published"] == 1
    assert imported(topics) == [0, 1, 2, 1234, 5]


def test_a_line_taken_too_early_can_be_passed_over(topics: Settings, tmp_path: Path) -> None:
    path, env = tmp_path / "series.csv", environment(topics)
    path.write_text(f"time,n\n{START},0\n{START + 1},12")
    assert soma(*words(path, "--final"), env=env).returncode == 0
    path.write_text(f"time,n\n{START},0\n{START + 1},1234\n{START + 2},2\n")
    stops = soma(*words(path), env=env)
    assert stops.returncode == 1 and "line 3: went on after it was imported" in stops.stderr
    assert soma(*words(path, "--skip-bad"), env=env).returncode == 1
    assert json.loads(soma(*words(path, "--json"), env=env).stdout)["rows"] == 0
    assert imported(topics) == [0, 12, 2]


def test_killed_at_any_moment_it_goes_on(topics: Settings, tmp_path: Path) -> None:
    rows, kills = 30_000, 0
    path = csv_file(tmp_path / "series.csv", rows)
    for k in range(1, 4):
        # So slow that a busy machine sees it before its end.
        process = start(topics, *words(path, "--rate", "3000"))
        before = end_of_topic(topics)

        def further(least: int = before + 2_500 * k, one: Process = process) -> bool:
            return one.poll() is not None or end_of_topic(topics) >= least

        eventually(further)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= 2
    last = soma(*words(path, "--json"), env=environment(topics))
    assert last.returncode == 0, last.stderr
    summary = json.loads(last.stdout)
    assert summary["rows"] > 0 and summary["earlier"]["rows"] > 0
    assert summary["rows"] + summary["earlier"]["rows"] == rows
    assert imported(topics) == list(range(rows))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_it_aborts_its_transaction_and_says_how_to_go_on(
    topics: Settings, tmp_path: Path, ending: signal.Signals
) -> None:
    path = csv_file(tmp_path / "series.csv", 10_000)
    process = start(topics, *words(path, "--rate", "1000", "--json"))
    eventually(lambda: end_of_topic(topics) > 300)
    process.send_signal(ending)
    text, said = process.communicate(timeout=20)
    assert process.returncode == 128 + ending, said
    # Left open it would hold up every reader of the partition until the broker ends it, after 20 s.
    eventually(lambda: not unstable(topics), 10.0, "all records are stable")
    assert "interrupted: the same command goes on" in said
    summary = json.loads(text)
    assert summary["published"] == len(imported(topics)) < 10_000
    assert soma(*words(path), env=environment(topics)).returncode == 0
    assert imported(topics) == list(range(10_000))


def test_a_killed_import_holds_readers_up_until_it_is_given_again(
    topics: Settings, tmp_path: Path
) -> None:
    path = csv_file(tmp_path / "series.csv", 3_000)
    for _ in range(9):  # the kill may come just after a commit
        process = start(topics, *words(path, "--rate", "300"))
        try:
            eventually(lambda: unstable(topics), 60.0, "a transaction is open")
        finally:
            process.kill()
            process.communicate()
        left = asyncio.run(transactions.look(topics.bootstrap(), {}, [topics.topic(TOPIC)]))
        if left:
            break
    assert [one.timeout_ms for one in left] == [20_000]  # or the broker ends it, so much later
    again = start(topics, *words(path, "--rate", "1"))
    try:
        eventually(lambda: not unstable(topics), 15.0, "the next start has fenced it")
    finally:
        again.terminate()
        again.communicate(timeout=20)


def test_two_at_once_publish_each_row_once(topics: Settings, tmp_path: Path) -> None:
    path = csv_file(tmp_path / "series.csv", 4_000)
    first = start(topics, *words(path, "--rate", "300"))
    eventually(lambda: end_of_topic(topics) > 100)
    assert soma(*words(path), env=environment(topics)).returncode == 0
    _, said = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "another import of the same source has begun" in said
    assert imported(topics) == list(range(4_000))


def test_a_bad_row_stops_it_until_it_is_mended(topics: Settings, tmp_path: Path) -> None:
    path, env = csv_file(tmp_path / "series.csv", 10), environment(topics)
    good = path.read_bytes()
    path.write_bytes(good.replace(b",6,", b",six,"))
    done = soma(*words(path, "--json"), env=env)
    assert done.returncode == 1
    assert "line 8: column 'n' has 'six', which is no number" in done.stderr
    assert json.loads(done.stdout)["published"] == 6
    path.write_bytes(good)
    assert soma(*words(path), env=env).returncode == 0
    assert imported(topics) == list(range(10))


def test_bad_rows_are_passed_over_on_wish(topics: Settings, tmp_path: Path) -> None:
    path, bad = csv_file(tmp_path / "series.csv", 10), tmp_path / "bad.jsonl"
    path.write_bytes(path.read_bytes().replace(b",6,", b",nan,").replace(b",2,", b",2,2,"))
    more = ("--skip-bad", "--bad", str(bad), "--json")
    done = soma(*words(path, *more), env=environment(topics))
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["published"], summary["refused"]) == (10, 8, 2)
    assert [row["line"] for row in summary["bad"]] == [4, 8]
    kept = [json.loads(one) for one in bad.read_text().splitlines()]
    assert [row["reason"] for row in kept] == [
        "4 cells where the header has 3",
        "column 'n' has nan, which isn't finite",
    ]
    assert kept[1]["row"] == f'{START + 6},nan,"a ""note"", quoted"'
    assert imported(topics) == [0, 1, 3, 4, 5, 7, 8, 9]


def test_a_pipe_that_pauses_is_committed_meanwhile(topics: Settings) -> None:
    process = start(
        topics, "observe", "--jsonl", "-", "--name", "pipe", "--json", stdin=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        for k in range(3):
            line = {"tenant": f"t{k}", "domain": "d", "ts": START * 1000, "vector": [k]}
            process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        eventually(lambda: sorted(imported(topics)) == [0, 1, 2])
        text, said = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert json.loads(text)["published"] == 3
    finally:
        process.kill()


def test_a_rate_is_kept_and_a_shift_ends_now(topics: Settings, tmp_path: Path) -> None:
    path = csv_file(tmp_path / "series.csv", 40)
    more = ("--rate", "40", "--shift-to-now", "--json")
    done = soma(*words(path, *more), env=environment(topics))
    assert done.returncode == 0, done.stderr
    assert 0.9 < json.loads(done.stdout)["seconds"] < 4
    last = read(topics, TOPIC)[-1]
    ts = codec.decode(last.value() or b"")[1]["ts"]
    assert 0 <= last.timestamp()[1] - ts / 1000 < 10_000


def test_a_broker_that_dies_again_and_again_costs_nothing(broker: Broker, tmp_path: Path) -> None:
    settings, rows = broker.settings, 12_000
    path = csv_file(tmp_path / "series.csv", rows)
    process = start(settings, *words(path, "--rate", "2000"))
    try:
        for least, blow in ((1_000, broker.kill), (4_000, broker.stop)):
            eventually(lambda least=least: reaches(settings, process, least))  # type: ignore[misc]
            blow()
            broker.start()
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    if process.returncode:
        assert "Give the same command again to go on." in said
        assert soma(*words(path), env=environment(settings)).returncode == 0
    assert imported(settings) == list(range(rows))


def reaches(settings: Settings, process: Process, least: int) -> bool:
    """Whether so many records came, or none will any more; a broker that starts isn't asked."""
    try:
        return process.poll() is not None or end_of_topic(settings) >= least
    except KafkaException:
        return False
