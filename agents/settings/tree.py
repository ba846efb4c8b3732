"""The settings of a deployment, with their types."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from agents import addresses
from agents.kit.setting import COGNITION, OFF_ON, Value
from agents.settings import groups, kafka
from agents.settings.errors import SettingsError
from agents.settings.fields import Group, Host, HttpUrl, WholePath, setting

PREFIX = "SOMA_"
FORGET_AFTER = "forget_after_s"
# Of a processor -> the setting that counts where it isn't set.
COMMON = {FORGET_AFTER: FORGET_AFTER, COGNITION: "enable_cog_threads"}
LOCAL_PARTITIONS = 4  # the local stack's common partition count
PROCESSOR = re.compile(r"[a-z][a-z0-9_]*")
HIDDEN = "**********"
SECRET = re.compile("password|secret|key|token|oauth")  # a property that is one


class ProcessorGroup(Group):
    """The deployment's values of a processor's settings."""


def _names(value: object) -> object:
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        return found
    names = tuple(str(name).strip() for name in found if str(name).strip())
    if wrong := [name for name in names if not PROCESSOR.fullmatch(name)]:
        raise ValueError(f"no processor can be named {', '.join(wrong)}; give names such as a,b")
    return names


def _redis(value: SecretStr) -> SecretStr:
    addresses.store(value.get_secret_value(), addresses.REDIS)
    return value


def _postgres(value: SecretStr) -> SecretStr:
    addresses.store(value.get_secret_value(), addresses.POSTGRES)
    return value


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    return path


class Settings(BaseSettings):
    """The deployment's settings. Use `load()`; pass values by name in tests."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    home: WholePath = setting(Path("~/.soma"), "what is kept on this machine")
    kernels_dir: Path | None = setting(  # read before there are settings (topics/compiled.py)
        None, "where compiled kernels are kept; not set: the user's cache"
    )
    namespace: str = setting(
        "",
        "prefix of topics, groups and keys",
        pattern=r"^[a-z0-9-]{0,32}$",
        values="up to 32 of a-z 0-9 -",
    )
    agents: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = setting(
        (), "processors and services of this worker; not set: all", values="names such as a,b"
    )

    # Both are read before there are settings (topics/plugins.py).
    plugins: str = setting(
        "",
        "packages that bring processors, topics and schemas, beside those installed",
        values="modules such as a,b",
    )
    plugins_optional: str = setting(
        "",
        "packages without which a process goes on where they can't be had",
        values="names such as a,b; * for each",
    )

    kafka_bootstrap: Annotated[str, AfterValidator(addresses.servers)] = setting(
        "", "the broker; not set: the local stack's", values="host:port,host:port"
    )
    kafka_properties: Annotated[
        dict[str, str], NoDecode, BeforeValidator(kafka.properties), AfterValidator(kafka.not_ours)
    ] = setting(
        {},
        "of the Kafka clients, by librdkafka's names",
        values="name=value,name=value, or a JSON object",
        shown=False,
    )
    topics_partitions: int | None = setting(
        None, "partitions of a topic; elsewhere than on the local stack it must be said", 1, 10_000
    )
    topics_replication: int = setting(3, "replicas of a topic; the local stack has 1", 1, 9)
    # These are read before there are settings (topics/registry.py).
    schema_registry_url: Annotated[HttpUrl, Field(pattern="^[^@]*$")] = setting(
        "",
        "registry that schema ids come from, for good; not set: avro/ids.json",
        values="an http(s) URL without user",
    )
    schema_registry_user: str = setting("", "told to it (basic auth)")
    schema_registry_password: SecretStr = setting(SecretStr(""), "told to it")
    schema_registry_ca: Annotated[WholePath, AfterValidator(_readable)] | None = setting(
        None, "PEM file of who signs its certificate; not set: whom this machine believes"
    )
    schema_registry_timeout_s: float = setting(5.0, "for one answer of it", 0, 60, above=True)
    redis_url: Annotated[SecretStr, AfterValidator(_redis)] = setting(
        SecretStr(""), "Redis; not set: the local stack's", values="redis://host:port/0"
    )
    postgres_dsn: Annotated[SecretStr, AfterValidator(_postgres)] = setting(
        SecretStr(""), "PostgreSQL; not set: the local stack's", values="postgresql://…"
    )

    web_host: Host = setting("127.0.0.1", "address of the worker's /ready and /metrics")
    web_port: int = setting(6066, "their port; 0: none", 0, 65_535)
    web_url: HttpUrl = setting(
        "",
        "where the HTTP API reaches them; not set: by SOMA_WEB_HOST (or, where that is every "
        "address, this machine's name) and SOMA_WEB_PORT",
        values="an http(s) URL",
    )
    state_token: SecretStr = setting(
        SecretStr(""),
        "shown by the HTTP API to workers that it asks for state; not set: they answer this "
        "machine alone",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "what is logged")

    standby: bool = setting(
        False,
        "whether the states of partitions that other workers own are followed, so that taking one "
        "over costs the last seconds only; it takes the memory of those states",
    )
    threads: int = setting(
        lambda: os.cpu_count() or 1, "that fold; not set: as many as there are cores", 1, 256
    )
    session_timeout_s: float = setting(
        10.0, "after which a silent worker's partitions go to others", 0, 90, above=True
    )
    heartbeat_s: float = setting(
        2.0, "between heartbeats, at most a third of SOMA_SESSION_TIMEOUT_S", 0, above=True
    )
    rebalance_timeout_s: float = setting(20.0, "that a rebalance waits for a worker", 0, above=True)
    answer_timeout_s: float = setting(15.0, "for one answer of the broker", 1, 60)
    commit_timeout_s: float = setting(30.0, "for one transaction", 1, 55)
    stalled_after_s: float = setting(
        30.0, "without a commit, until a partition with work is taken anew", 1, 3600
    )
    fetch_bytes: int = setting(1 << 20, "of one answer, for a partition", 65_536, 64 << 20)
    batch_records_max: int = setting(40_000, "records of one batch", 1, 1_000_000)
    batch_unpacked_bytes_max: int = setting(
        64 << 20, "of one record batch, unpacked", 2 << 20, 1 << 30
    )
    forget_after_s: int = setting(
        30 * 86_400,
        "silence until forgotten, where SOMA_<PROCESSOR>__FORGET_AFTER_S isn't set",
        60,
        315_360_000,
    )

    enable_cog_threads: bool = setting(
        False,
        "whether what steers the cognition (sleep, canary) acts, where "
        "SOMA_<PROCESSOR>__COGNITION isn't set; off: it is counted as disabled. The local stack "
        "and the demo switch it on",
    )

    replay_rate: int = setting(
        20_000,
        "records a second that replay jobs read, all of one worker's, so of N workers N times as "
        "many; 0: as many as come",
        0,
        100_000_000,
    )

    snapshot_every_h: int = setting(
        24, "hours between snapshots of a state; 0: by `soma snapshot take` only", 0, 24 * 60
    )

    policy_dir: WholePath | None = setting(None, "Rego policy in front of every change of leader")
    opa_url: HttpUrl = setting(
        "",
        "OPA server that is asked instead; by the HTTP API too, before anything is written",
        values="an http(s) URL",
    )
    opa_token: SecretStr = setting(SecretStr(""), "sent to it")
    opa_timeout_s: float = setting(1.0, "for its answer", 0, 60, above=True)
    opa_fail_open: bool = setting(False, "whether no or a wrong answer allows; else it denies")

    memory_http_endpoint: Annotated[HttpUrl, Field(pattern="^[^@]*$")] = setting(
        "", "remote memory service that memory.events go to", values="an http(s) URL without user"
    )
    memory_http_token: SecretStr = setting(SecretStr(""), "sent to it")

    projections: groups.ProjectionSettings = groups.ProjectionSettings()
    journal: groups.JournalSettings = groups.JournalSettings()
    outbox: groups.OutboxDefaults = groups.OutboxDefaults()
    gateway: groups.GatewaySettings = groups.GatewaySettings()
    api: groups.ApiSettings = groups.ApiSettings()
    mcp: groups.McpSettings = groups.McpSettings()
    recall: groups.RecallSettings = groups.RecallSettings()
    rho: groups.RhoSettings = groups.RhoSettings()

    _filled: set[str] = PrivateAttr(default_factory=set)  # from the local stack

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Files named as the variables are, those of groups too: SOMA_API__JWT_SECRET.
        return init_settings, env_settings, NestedSecretsSettingsSource(file_secret_settings)

    @field_validator("heartbeat_s")
    @classmethod
    def _thrice(cls, value: float, info: ValidationInfo) -> float:
        session = info.data.get("session_timeout_s")  # missing if it is wrong itself
        if session is not None and value * 3 > session:
            raise ValueError(
                f"{value:g} is more than a third of SOMA_SESSION_TIMEOUT_S ({session:g})"
            )
        return value

    @field_validator("opa_url")
    @classmethod
    def _one_policy(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("policy_dir") is not None:
            raise ValueError("this and SOMA_POLICY_DIR exclude each other: keep one of them")
        return value

    @model_validator(mode="after")
    def _local_stack(self) -> Self:
        """Fill what was left empty from the local stack, if there is one."""
        if self.kafka_bootstrap and self.redis_url and self.postgres_dsn:
            return self
        noted = stack_endpoints(self.home)
        if not self.kafka_bootstrap and noted.get("kafka_bootstrap"):
            self._fill("kafka_bootstrap", noted["kafka_bootstrap"])
            if "topics_partitions" not in self.model_fields_set:
                self._fill("topics_partitions", LOCAL_PARTITIONS)
            if "topics_replication" not in self.model_fields_set:
                self._fill("topics_replication", 1)
            if "enable_cog_threads" not in self.model_fields_set:
                self._fill("enable_cog_threads", True)
        for name in ("redis_url", "postgres_dsn"):
            if not getattr(self, name) and noted.get(name):
                self._fill(name, SecretStr(noted[name]))
        return self

    def _fill(self, name: str, value: object) -> None:
        self.__dict__[name] = value  # frozen to everybody else
        self._filled.add(name)

    @property
    def filled(self) -> frozenset[str]:
        """Names of the fields that the local stack filled."""
        return frozenset(self._filled)

    @property
    def local(self) -> bool:
        """Whether the broker is the local stack's."""
        return "kafka_bootstrap" in self._filled

    def given(self, processor: str) -> dict[str, Value]:
        """What the deployment sets of a processor's settings, by name."""
        group = getattr(self, processor, None)
        names = group.model_fields_set if isinstance(group, ProcessorGroup) else ()
        return {name: getattr(group, name) for name in names}

    def common(self) -> dict[str, Value]:
        """What counts for every processor that has such a setting and where it isn't given."""
        cognition = OFF_ON[self.enable_cog_threads]
        return {FORGET_AFTER: self.forget_after_s, COGNITION: cognition}

    def topic(self, name: str) -> str:
        """The topic's name on the broker: with the namespace before it, if there is one."""
        return self.prefix(name)

    def prefix(self, text: str) -> str:
        """A topic's, group's or transactional id's name as this namespace's own."""
        return f"{self.namespace}.{text}" if self.namespace else text

    def redis_key(self, text: str) -> str:
        """A Redis key as this namespace's own."""
        return f"{self.namespace}:{text}" if self.namespace else text

    def bootstrap(self) -> str:
        """The broker's address; `SettingsError` if there is none."""
        if not self.kafka_bootstrap:
            raise _unset("broker", "SOMA_KAFKA_BOOTSTRAP=host:port", self.home)
        return self.kafka_bootstrap

    def redis(self) -> str:
        """Redis' URL, secrets included; `SettingsError` if there is none."""
        if not self.redis_url:
            raise _unset("Redis", "SOMA_REDIS_URL=redis://host:port/0", self.home)
        return self.redis_url.get_secret_value()

    def postgres(self) -> str:
        """PostgreSQL's DSN, secrets included; `SettingsError` if there is none."""
        if not self.postgres_dsn:
            raise _unset("PostgreSQL", "SOMA_POSTGRES_DSN=postgresql://…", self.home)
        return self.postgres_dsn.get_secret_value()

    def librdkafka(self, **more: Any) -> dict[str, Any]:
        """A confluent client's configuration; `more` wins, `_` in its names stands for `.`.

        Quiet by default (`log_level` 0): librdkafka writes to stderr what the client's own errors
        say again. Pass a `logger` and another `log_level` where its log is wanted.
        """
        quiet: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap(),
            "log_level": 0,
            "socket.timeout.ms": int(self.answer_timeout_s * 1000),
        }
        given = {kafka.dotted(name): value for name, value in more.items()}
        return quiet | self.kafka_properties | given

    def shown(self) -> dict[str, Any]:
        """All values as JSON data, secrets hidden."""
        data = self.model_dump(mode="json")
        data["kafka_properties"] = {
            name: HIDDEN if SECRET.search(name) else value
            for name, value in self.kafka_properties.items()
        }
        for name in (name for name, group in self if isinstance(group, ProcessorGroup)):
            for one in (data[name].keys() & COMMON.keys()) - self.given(name).keys():
                data[name][one] = self.common()[one]
        return data


def stack_endpoints(home: Path) -> dict[str, str]:
    """What the local stack in `home` answers at; empty if it was never started there."""
    try:
        noted = json.loads((home / "stack.json").read_text())
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise ValueError(f"SOMA_HOME: {home} is no folder") from None
    except OSError as error:
        raise ValueError(f"{home / 'stack.json'} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{home / 'stack.json'} can't be read ({error}): remove it") from error
    return {name: str(text) for name, text in noted.get("endpoints", {}).items()}


def _unset(what: str, example: str, home: Path) -> SettingsError:
    return SettingsError(
        f"No {what} is set, and there is no local stack in {home}: "
        f"start one with `soma stack up`, or set {example} to use one of your own."
    )
