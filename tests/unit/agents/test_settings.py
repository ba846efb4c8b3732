"""Settings: where values come from, that every error is told at once, that secrets stay hidden."""

import json
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import agents
from agents.kit.setting import Setting
from agents.settings import HIDDEN, Settings, SettingsError, load, reading
from agents.settings.reading import cognition_off, declared, origin, tree_of, without_cognition

Env = pytest.MonkeyPatch
EVERY = Setting(10, "records", 1)
PLAIN = """
from dataclasses import replace
from agents.kit.setting import Setting
from agents.predictors.agent import PROCESSOR as OTHER
PROCESSOR = replace(OTHER, name="plain", settings={"every": Setting(10, "records", 1)})
"""


def note_stack(home: Path) -> None:
    home.mkdir(exist_ok=True)
    ends = {
        "kafka_bootstrap": "127.0.0.1:1",
        "redis_url": "redis://127.0.0.1:2/0",
        "postgres_dsn": "postgresql://soma:secret@127.0.0.1:3/soma",
    }
    (home / "stack.json").write_text(json.dumps({"version": 1, "endpoints": ends}))


def test_the_environment_sets_values(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_NAMESPACE", "red")
    monkeypatch.setenv("SOMA_AGENTS", " integrator, predictors ")
    monkeypatch.setenv("SOMA_INTEGRATOR__ALPHA", "3.5")
    monkeypatch.setenv("SOMA_PREDICTORS__GRAPH", "ring")
    monkeypatch.setenv("SOMA_WEB_PORT", "")  # empty is as good as not set
    settings = load()
    assert settings.agents == ("integrator", "predictors")
    assert settings.integrator.alpha == 3.5
    assert settings.predictors.graph == "ring"
    assert settings.web_port == 6066
    assert settings.topic("cog.observations") == "red.cog.observations"
    assert settings.redis_key("cog:x") == "red:cog:x"


def test_without_a_namespace_names_are_plain() -> None:
    settings = load()
    assert settings.topic("cog.observations") == "cog.observations"
    assert settings.redis_key("cog:x") == "cog:x"


@pytest.mark.parametrize(
    "text", ['{"sasl.password": "geheim", "client.id": "x"}', "sasl.password=geheim,client.id=x"]
)
def test_kafka_properties_reach_the_client_and_stay_hidden(monkeypatch: Env, text: str) -> None:
    monkeypatch.setenv("SOMA_KAFKA_BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", text)
    settings = load()
    config = settings.librdkafka(enable_auto_commit=False, **{"client.id": "y"})
    assert config == {
        "bootstrap.servers": "broker:9092",
        "log_level": 0,
        "socket.timeout.ms": 15_000,
        "sasl.password": "geheim",
        "client.id": "y",
        "enable.auto.commit": False,
    }
    assert settings.shown()["kafka_properties"] == {"sasl.password": HIDDEN, "client.id": "x"}
    assert "geheim" not in repr(settings)


def test_every_error_is_told_at_once(monkeypatch: Env) -> None:
    wrong = {
        "SOMA_NAMESPACE": "Not A Name",
        "SOMA_WEB_PORT": "70000",
        "SOMA_INTEGRATOR__FUSION": "vote",
        "SOMA_INTEGRATOR__ALHPA": "1",
        "SOMA_AGENTS": "integrator,../x",
        "SOMA_NAMESPCAE": "x",
        "SOMA_KAFKA_PROPERTIES": "no equals sign",
        "SOMA_SECRETS_DIR": "/nowhere/at/all",
    }
    for name, text in wrong.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load()
    for name in wrong:
        assert name in str(caught.value), name


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA_BOOTSTRAP", "a" * 5_000 + ":9092", "a host's name has 255 characters at most"),
        ("REDIS_URL", f"redis://{'a' * 5_000}:1/0", "a host's name has 255 characters at most"),
        ("POSTGRES_DSN", "postgresql://u:geheim@db:99999/x", "its port isn't one of 1 to 65535"),
        ("POSTGRES_DSN", "postgresql://u:geheim@db:1,b:0/x", "its port isn't one of 1 to 65535"),
        ("POSTGRES_DSN", "postgresql://u:1234567/geheim@db", "its port isn't one of 1 to 65535"),
        ("POSTGRES_DSN", "foo", "give postgresql://user:password@host:port/db"),
        ("POSTGRES_DSN", "host=db password=geheim", "give postgresql://user:password@host:port/db"),
        ("REDIS_URL", "foo", "give redis://host:port/0"),
        ("REDIS_URL", "http://:geheim@cache:1/0", "give redis://host:port/0"),
        ("OPA_URL", "http://opa:70000", "its port isn't one of 1 to 65535"),
        ("API__JWKS_URL", "https://keys:70000/x", "its port isn't one of 1 to 65535"),
        ("MEMORY_HTTP_ENDPOINT", "https://memory:0", "its port isn't one of 1 to 65535"),
        (
            "KAFKA_PROPERTIES",
            "ssl.ca.location=/nowhere/ca.pem",
            "ssl.ca.location /nowhere/ca.pem can't be read: No such file or directory",
        ),
    ],
)
def test_one_error_is_one_line_that_names_its_variable(
    monkeypatch: Env, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SOMA_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == f"The settings can't be used: SOMA_{name}: {said}"


@pytest.mark.parametrize(
    "value",
    ["postgresql://u:p@[::1]:5432/x", "postgresql://u:p@a:1,b/x", "postgresql:///x?host=/run", ""],
)
def test_lawful_dsns_pass(monkeypatch: Env, value: str) -> None:
    monkeypatch.setenv("SOMA_POSTGRES_DSN", value)
    assert load().postgres_dsn.get_secret_value() == value


def test_two_settings_that_clash_are_both_named(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_HEARTBEAT_S", "9")
    with pytest.raises(SettingsError) as caught:
        load()
    clash = "SOMA_HEARTBEAT_S: 9 is more than a third of SOMA_SESSION_TIMEOUT_S (10)"
    assert str(caught.value) == f"The settings can't be used: {clash}"


def test_each_error_is_a_line_that_names_the_variable(monkeypatch: Env, tmp_path: Path) -> None:
    wrong = {
        "SOMA_API__PROT": "there is no such setting; SOMA_API__PORT?",
        "SOMA_HEARTBEAT_S": "3 is more than a third of SOMA_SESSION_TIMEOUT_S (6)",
        "SOMA_INTEGRATOR__MARGIN": "a number from 0 to 1, not '5'",
        "SOMA_NAMESPCAE": "there is no such setting; SOMA_NAMESPACE?",
        "SOMA_OPA_URL": "this and SOMA_POLICY_DIR exclude each other: keep one of them",
        "SOMA_PREDICTORS__CALIBRATE_EVERY": "a whole number from 50 to 100000, not '50.5'",
        "SOMA_PROJECTIONS__HISTORY": "give off, all, 1/N (every n-th), or 1s, 500ms …",
        "SOMA_KITCHEN__ALPHA": "there is no such setting",
        "SOMA_WEB_PORT": "give a whole number from 0 to 65535",
        "SOMA_LOG_LEVEL": "give one of debug, info, warning, error",
        "SOMA_OPA_FAIL_OPEN": "give true or false",
        "SOMA_ANSWER_TIMEOUT_S": "give a number from 1 to 60",
    }
    values = {
        "SOMA_HEARTBEAT_S": "3", "SOMA_INTEGRATOR__MARGIN": "5", "SOMA_OPA_URL": "http://h:1",
        "SOMA_PREDICTORS__CALIBRATE_EVERY": "50.5", "SOMA_WEB_PORT": "70000",
    }  # fmt: skip
    for name in wrong:
        monkeypatch.setenv(name, values.get(name, "wrong"))
    monkeypatch.setenv("SOMA_SESSION_TIMEOUT_S", "6")
    monkeypatch.setenv("SOMA_POLICY_DIR", str(tmp_path))
    with pytest.raises(SettingsError) as caught:
        load()
    first, *lines = str(caught.value).splitlines()
    assert first == "The settings can't be used:" and len(lines) == len(wrong)
    for name, said in wrong.items():
        assert any(line.startswith(f"{name}: {said}") for line in lines), (name, lines)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "JOURNAL",
            '{"max_mb":',
            "Expecting value: line 1 column 11 (char 10))",
        ),
        ("JOURNAL", '{"max_mb": 1}', "give a whole number from 16 to 1048576"),
        ("API__PORT__X", "1", "give a whole number from 0 to 65535"),
        ("KAFKA_PROPERTIES", '{"retries": 3}', "retries: Input should be a valid string"),
    ],
)
def test_errors_inside_a_value_name_its_variable(
    monkeypatch: Env, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SOMA_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith(f"The settings can't be used: SOMA_{name.split('__X')[0]}")
    assert str(caught.value).endswith(said)


STEERING = ["canary", "sleep"]


def test_cognition_is_off_unless_it_is_switched_on_or_the_stack_is_local(
    monkeypatch: Env, tmp_path: Path
) -> None:
    assert load().common()["cognition"] == "off" and without_cognition(load()) == STEERING
    monkeypatch.setenv("SOMA_ENABLE_COG_THREADS", "1")
    assert load().common()["cognition"] == "on" and without_cognition(load()) == []
    monkeypatch.setenv("SOMA_SLEEP__COGNITION", "off")
    assert without_cognition(load()) == ["sleep"]
    monkeypatch.delenv("SOMA_SLEEP__COGNITION")
    monkeypatch.delenv("SOMA_ENABLE_COG_THREADS")
    (tmp_path / "stack.json").write_text('{"endpoints": {"kafka_bootstrap": "127.0.0.1:1"}}')
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    here = load(whole=True)
    assert here.enable_cog_threads and here.shown()["sleep"]["cognition"] == "on"
    assert origin(here, "SOMA_SLEEP__COGNITION") == "local stack"
    monkeypatch.setenv("SOMA_ENABLE_COG_THREADS", "0")
    assert not load().enable_cog_threads


def test_settings_declared_where_a_processor_is_load_it_only_when_one_is_set(
    monkeypatch: Env, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "__init__.py").write_text("")
    (tmp_path / "plain" / "agent.py").write_text(PLAIN)
    monkeypatch.setattr(reading, "AGENTS", tmp_path)
    monkeypatch.setattr(agents, "__path__", [*agents.__path__, str(tmp_path)])
    assert declared("SOMA_OTHER__EVERY") == {} and "agents.plain.agent" not in sys.modules
    assert declared("SOMA_PLAIN__EVERY") == declared() == {"plain": {"every": EVERY}}
    found = tree_of(declared())(plain={"every": "20"})
    assert found.given("plain") == {"every": 20} and found.given("other") == {}


def test_no_processor_takes_a_settings_name() -> None:
    with pytest.raises(SettingsError, match="no processor can be named journal"):
        tree_of({"journal": {}})


def test_an_error_never_shows_the_value(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", '{"sasl.password": "geheim"')
    with pytest.raises(SettingsError) as caught:
        load()
    assert "geheim" not in str(caught.value)


def test_a_property_given_twice_is_refused(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", '{"client.id": "x", "client.id": "y"}')
    with pytest.raises(SettingsError, match=r'"client\.id": given twice'):
        load()


@pytest.mark.parametrize("name", ["acks", "request.required.acks"])
def test_acknowledgements_are_not_for_properties_to_weaken(monkeypatch: Env, name: str) -> None:
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", f'{{"{name}": "0"}}')
    with pytest.raises(SettingsError, match=f"set elsewhere: {name} by Soma itself"):
        load()


def test_a_property_without_a_dot_is_sent_to_the_json_form(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", "retries=3")
    with pytest.raises(SettingsError, match="or a name has no dot"):
        load()
    monkeypatch.setenv("SOMA_KAFKA_PROPERTIES", '{"retries": "3"}')
    assert load().kafka_properties == {"retries": "3"}


def test_heartbeats_must_fit_the_session() -> None:
    with pytest.raises(ValidationError, match="third"):
        Settings(session_timeout_s=6, heartbeat_s=3)


def test_secrets_come_from_files(monkeypatch: Env, tmp_path: Path) -> None:
    (tmp_path / "SOMA_POSTGRES_DSN").write_text("postgresql://u:geheim@db/x\n")
    monkeypatch.setenv("SOMA_SECRETS_DIR", str(tmp_path))
    settings = load()
    assert settings.postgres() == "postgresql://u:geheim@db/x"
    assert "geheim" not in json.dumps(settings.shown())
    assert "geheim" not in repr(settings)


def test_the_local_stack_fills_what_is_empty(monkeypatch: Env, tmp_path: Path) -> None:
    note_stack(tmp_path)
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    settings = load()
    assert settings.local
    assert settings.bootstrap() == "127.0.0.1:1"
    assert settings.redis() == "redis://127.0.0.1:2/0"
    assert "secret" in settings.postgres()
    assert (settings.topics_partitions, settings.topics_replication) == (4, 1)


def test_what_is_set_wins_over_the_local_stack(monkeypatch: Env, tmp_path: Path) -> None:
    note_stack(tmp_path)
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    monkeypatch.setenv("SOMA_KAFKA_BOOTSTRAP", "broker:9092")
    settings = load()
    assert not settings.local
    assert settings.bootstrap() == "broker:9092"
    assert (settings.topics_partitions, settings.topics_replication) == (None, 3)


def test_without_any_server_both_ways_are_named() -> None:
    settings = load()
    for ask, variable in (
        (settings.bootstrap, "SOMA_KAFKA_BOOTSTRAP"),
        (settings.redis, "SOMA_REDIS_URL"),
        (settings.postgres, "SOMA_POSTGRES_DSN"),
    ):
        with pytest.raises(SettingsError, match=r"soma stack up") as caught:
            ask()
        assert variable in str(caught.value)


def test_a_broken_note_of_the_stack_is_named(monkeypatch: Env, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"version": 1, "endp')
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"stack\.json can't be read .*: remove it"):
        load()


def test_a_home_that_is_no_folder_is_named(monkeypatch: Env) -> None:
    monkeypatch.setenv("SOMA_HOME", "/dev/null")
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == "The settings can't be used: SOMA_HOME: /dev/null is no folder"


@pytest.mark.parametrize("name", ["HOME", "POLICY_DIR", "JOURNAL__FOLDER", "API__JWKS_FILE"])
def test_a_path_below_a_home_that_there_is_not_is_named(monkeypatch: Env, name: str) -> None:
    monkeypatch.setenv(f"SOMA_{name}", "~nobody-of-this-name/x")
    with pytest.raises(SettingsError, match=rf"SOMA_{name}: ~nobody-of-this-name/x can't be found"):
        load()


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError):
        load().web_port = 1
    assert Settings(redis_url=SecretStr("redis://x")).redis() == "redis://x"


def test_one_counts_and_several_count() -> None:
    more = "as disabled, and"
    assert cognition_off(["sleep"]) == f"sleep counts what comes {more} does nothing"
    assert cognition_off(["a", "b"]) == f"a and b count what comes {more} do nothing"
    assert cognition_off(["a", "b", "c"]).startswith("a, b and c count ")
