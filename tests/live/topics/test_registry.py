"""Ids from a registry: the ones it gives, or none at all."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from ops.stack.ports import free_port
from tests.live.helpers import soma
from tests.live.registries import TIMEOUT_S, ask, at, registry
from tests.live.registry_front import Front, front, signed
from topics.registered import RegisteredSchemas
from topics.registry import CA, PASSWORD, URL, USER, Access, RegistryAway, RegistryError
from topics.schemas import Schemas, fingerprint, stem_of

__all__ = ["registry"]

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def before(registry: str) -> Iterator[Front]:
    """A front of the test's own in front of the registry."""
    base, _, _ = registry.partition("/apis")
    with front(base) as one:
        one.url += "/apis/ccompat/v7"
        yield one


def known(url: str, home: Path, **more: object) -> RegisteredSchemas:
    access = Access(url, home=home, timeout_s=TIMEOUT_S)
    return RegisteredSchemas(replace(access, **more))  # type: ignore[arg-type]


def test_ids_are_those_that_another_client_finds(registry: str, tmp_path: Path) -> None:
    ours = known(registry, tmp_path)
    with SchemaRegistryClient({"url": registry}) as client:
        for key in (("observation", 1), ("epoch", 2), ("control_setting", 3), ("memory_event", 1)):
            found = client.get_schema(ours.numbers()[key])
            assert fingerprint(json.loads(found.schema_str or "")) == fingerprint(ours.raw(*key))
        for subject in ("soma.epoch", "soma.epochs-value"):
            newest = client.get_latest_version(subject)
            assert (newest.schema_id, newest.version) == (ours.schema_id("epoch"), 2)


def test_all_of_ours_have_one_and_control_records_are_known_by_it(
    registry: str, tmp_path: Path
) -> None:
    ours, file = known(registry, tmp_path), Schemas()
    assert sorted(ours.all()) == sorted(file.all())
    assert len(set(ours.numbers().values())) == len(file.all())
    assert {stem_of(ours.ids()[n]) for n in ours.ids() if ours.is_control(n)} == {
        stem_of(key) for key in file.all() if key[0].startswith("control_")
    }
    assert not ours.is_control(905)
    assert ours.digest() != file.digest()


def test_registering_again_finds_all_there(registry: str, tmp_path: Path) -> None:
    done = soma("schema", "register", "--json", env=at(registry, tmp_path))
    said = json.loads(done.stdout)
    assert (said["registered"], said["problems"]) == ([], [])
    assert "cog.observations-value observation.v1" in said["there"]
    assert "looked at" in done.stderr


def test_a_dry_run_registers_nothing(registry: str, tmp_path: Path) -> None:
    env = at(registry, tmp_path, SOMA_NAMESPACE="dry")
    done = soma("schema", "register", "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    assert "would be registered: observation.v1 under dry.cog.observations-value" in done.stdout
    assert not [one for one in ask("GET", f"{registry}/subjects") if one.startswith("dry.")]
    checked = soma("schema", "check", env=env)
    assert checked.returncode == 1
    assert "observation.v1 under dry.cog.observations-value: not registered" in checked.stderr


def test_what_it_refuses_is_named_and_the_rest_registered(registry: str, tmp_path: Path) -> None:
    subject = f"{registry}/subjects/odd.cog.observations-value/versions"
    other = {"type": "record", "name": "observation", "namespace": "soma", "fields": [
        {"name": "tenant", "type": "long"}]}  # fmt: skip
    ask("POST", subject, {"schema": json.dumps(other)})
    ask("PUT", f"{registry}/config/odd.cog.observations-value", {"compatibility": "BACKWARD"})
    env = at(registry, tmp_path, SOMA_NAMESPACE="odd")
    for words in (("--dry-run",), ()):
        done = soma("schema", "register", *words, env=env)
        assert done.returncode == 1
        assert "observation.v1 under odd.cog.observations-value: refused: " in done.stderr
        assert "1 problem:" in done.stderr
    assert ask("GET", f"{registry}/subjects/odd.cog.segments-value/versions") == [1]


def test_kept_ids_go_on_while_it_is_away_and_it_is_said(
    before: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = known(before.url, tmp_path)
    numbers = dict(first.numbers())
    asked = len(before.asked)
    assert known(before.url, tmp_path).numbers() == numbers  # compared a moment ago
    assert len(before.asked) == asked
    before.closed = True
    monkeypatch.setattr("topics.registered.CHECKED_S", 0.0)
    assert known(before.url, tmp_path).numbers() == numbers
    assert f"{URL}: {before.url} can't be reached" in (said := capsys.readouterr().err)
    assert "going on with the ids kept in" in said
    with pytest.raises(RegistryAway, match="can't be reached"):
        known(before.url, tmp_path).ask(anew=True)


def test_away_and_nothing_kept_is_an_error_and_no_id(tmp_path: Path) -> None:
    with pytest.raises(RegistryAway, match=r"the ids of our [0-9]+ schemas aren't all kept here"):
        known(NOWHERE, tmp_path).schema_id("observation")
    done = soma("schema", "topics", env=at(NOWHERE, tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {URL}: {NOWHERE} can't be reached")
    help_ = soma("settings", "print", env=at(NOWHERE, tmp_path))
    assert help_.returncode == 0, help_.stderr  # nothing that needs no id asks


def test_a_slow_one_is_waited_for_so_long_and_no_longer(before: Front, tmp_path: Path) -> None:
    before.late_s = 30.0
    begun = time.monotonic()
    with pytest.raises(RegistryAway, match=r"doesn't answer within 0\.3 s"):
        known(before.url, tmp_path, timeout_s=0.3).numbers()
    assert time.monotonic() - begun < 15.0


def test_another_schema_for_an_id_of_ours_is_named_and_nothing_kept(
    before: Front, tmp_path: Path
) -> None:
    number = known(before.url, tmp_path / "good").schema_id("observation")

    def other(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.endswith(f"/schemas/ids/{number}"):
            return 200, json.dumps({"schema": '{"type": "string"}'}).encode()
        return status, body

    before.answer = other
    ours = known(before.url, tmp_path)
    with pytest.raises(RegistryError, match=rf"observation\.v1: the id {number} is another"):
        ours.schema_id("position")
    assert not list(tmp_path.glob("registry/*"))
    with pytest.raises(RegistryError, match="is another schema"):  # with all of them kept, too
        known(before.url, tmp_path / "good").ask(anew=True)


def test_an_id_that_is_gone_or_given_twice_is_named(before: Front, tmp_path: Path) -> None:
    ids = known(before.url, tmp_path / "good").numbers()
    gone = ids["lesson", 1]

    def lost(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.endswith(f"/schemas/ids/{gone}"):
            return 404, json.dumps({"error_code": 40403, "message": "gone"}).encode()
        return status, body

    before.answer = lost
    with pytest.raises(RegistryError, match=f"lesson.v1: the id {gone} isn't there any more"):
        known(before.url, tmp_path / "good").ask(anew=True)

    def twice(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/subjects/soma.lesson"):
            return 200, json.dumps({**json.loads(body), "id": ids["skip", 1]}).encode()
        return status, body

    before.answer = twice
    with pytest.raises(RegistryError, match=r"lesson\.v1 and skip\.v1: both"):
        known(before.url, tmp_path).numbers()


def test_what_is_no_registry_is_named(before: Front, tmp_path: Path) -> None:
    wrong = before.url.replace("/apis/ccompat/v7", "")
    with pytest.raises(RegistryError, match="isn't a schema registry's address"):
        known(wrong, tmp_path).numbers()
    with pytest.raises(RegistryError, match=f"give user and password as {USER}"):
        known("http://me:hidden@127.0.0.1:9", tmp_path).numbers()


def test_with_tls_and_a_password(registry: str, tmp_path: Path) -> None:
    base, _, path = registry.partition("/apis")
    pem = signed(tmp_path)
    with front(base, "se cret", pem) as one:
        url = f"{one.url}/apis{path}"
        env = at(url, tmp_path, **{USER: "soma", CA: str(pem)})
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / PASSWORD).write_text("se cret\n")
        for more in ({PASSWORD: "se cret"}, {"SOMA_SECRETS_DIR": str(tmp_path / "secrets")}):
            done = soma("schema", "topics", env=env | more)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["cog.observations"]["id"] > 0
            for kept in tmp_path.glob("registry/*"):
                assert "se cret" not in kept.read_text()
                kept.unlink()
        done = soma("schema", "topics", env=env | {PASSWORD: "wrong"})
        assert f"lets us not in (401): see {USER} and {PASSWORD}" in done.stderr
        assert "wrong" not in done.stderr.replace("see", "")
        done = soma("schema", "topics", env=at(url, tmp_path))
        assert "certificate verify failed" in done.stderr
        done = soma("settings", "print", env=env | {PASSWORD: "se cret"})
        assert done.returncode == 0 and "se cret" not in done.stdout


def test_threads_that_need_an_id_at_once_ask_once(before: Front, tmp_path: Path) -> None:
    ours = known(before.url, tmp_path)
    threads = [threading.Thread(target=ours.numbers) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60.0)
    assert len(before.asked) == 2 * len(ours.all())


def test_a_registry_nobody_listens_at(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RegistryAway, match="can't be reached"):
        known(url, tmp_path).settle([5])
