"""The one settings tree: every knob of the deployment, read once, all errors shown at once.

Values come from (first wins) arguments, environment variables `SOMA_<FIELD>` (`__` for nesting, as
in `SOMA_INTEGRATOR__ALPHA`), and files of the same names in the folder `SOMA_SECRETS_DIR`.
Addresses left empty are those of the local stack, which notes them in `SOMA_HOME/stack.json`.
Nothing else in the project reads the environment. What differs per tenant isn't here: it comes in
band.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
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
from pydantic_settings import SettingsError as SourceError

from agents import addresses
from topics import strictjson

PREFIX = "SOMA_"
SECRETS_DIR = "SOMA_SECRETS_DIR"
LOCAL_PARTITIONS = 4  # the local stack's common partition count
ROOM_NAME = re.compile(r"[a-z][a-z0-9_]*")
HIDDEN = "**********"
PROPERTY = re.compile(r"[a-z]+([._][a-z0-9]+)+|debug")
# Of SOMA_KAFKA_PROPERTIES: what has a setting of its own, or must be as the engine wants it.
OURS = {
    "bootstrap.servers": "SOMA_KAFKA_BOOTSTRAP",
    "metadata.broker.list": "SOMA_KAFKA_BOOTSTRAP",
    "group.id": "SOMA_NAMESPACE",
    "transactional.id": "SOMA_NAMESPACE",
    "isolation.level": "Soma itself",
    "enable.auto.commit": "Soma itself",
    "auto.offset.reset": "Soma itself",
    "enable.idempotence": "Soma itself",
    "acks": "Soma itself",
    "request.required.acks": "Soma itself",
    "session.timeout.ms": "SOMA_SESSION_TIMEOUT_S",
}

YEAR_MS = 366 * 86_400_000.0

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Host = Annotated[str, Field(max_length=addresses.HOST_MAX)]
# One of http or https, or none at all.
HttpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s?#]+)?$"), AfterValidator(addresses.url)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class SettingsError(Exception):
    """The settings can't be used; the text names every error and what to set instead."""


class IntegratorDefaults(BaseModel):
    """What the fusion law uses for tenants that set nothing else (times in event time)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fusion: Literal["hedge", "fixed_share", "softmax"] = "fixed_share"
    alpha: Annotated[float, Field(ge=0.0, le=1e6)] = 2.0
    share: Share = 0.001
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    entropy_cap: Share = 1.0
    margin: Share = 0.05
    min_dwell_ms: Annotated[float, Field(ge=0.0, le=YEAR_MS)] = 50.0
    stale_after_ms: Annotated[float, Field(gt=0.0, le=YEAR_MS)] = 10_000.0
    veto_retry_ms: Annotated[float, Field(ge=0.0, le=YEAR_MS)] = 1000.0
    drift: Literal["off", "on"] = "on"
    drift_entropy: Share = 0.8
    drift_regret: Share = 0.1
    drift_cooldown_s: Annotated[float, Field(ge=0.0, le=1e10)] = 60.0
    auto_rollback: Literal["off", "on"] = "off"


class PredictorDefaults(BaseModel):
    """What the predictors use for tenants that set nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    predictor: Literal["heat", "persistence", "mahal"] = "heat"
    alpha: Annotated[float, Field(ge=0.0, le=1000.0)] = 2.0
    diffusion_time: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    graph: Literal["path", "ring", "star", "none"] = "path"
    forgetting: Annotated[float, Field(ge=0.0, le=0.999)] = 0.01
    calibrate: Literal["on", "off"] = "on"
    calibrate_every: Annotated[int, Field(ge=50, le=100_000)] = 200
    next_events: Literal["on", "off"] = "on"


class ProjectionSettings(BaseModel):
    """What is kept in PostgreSQL beyond the last frame of each tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # off, all, 1/N (every n-th), or the first of a tenant in each 1s, 500ms … of log time.
    history: Annotated[str, Field(pattern=r"^(off|all|1/[1-9]\d{0,6}|[1-9]\d{0,6}(ms|s))$")] = "1s"
    history_days: Annotated[int, Field(ge=1, le=3650)] = 7


class GatewaySettings(BaseModel):
    """How the remote memory service is called; the breaker's numbers are those of its law."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 5.0  # of one call, to its last byte
    concurrency: Annotated[int, Field(ge=1, le=1_000)] = 32  # quick calls at a time
    slow_concurrency: Annotated[int, Field(ge=1, le=1_000)] = 256  # slow and failing ones
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    open_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = 60.0
    health_every_s: Annotated[float, Field(gt=0.0, le=3_600.0)] = 5.0
    lane_events: Annotated[int, Field(ge=1, le=10_000)] = 200  # held in memory, per tenant
    queued_events: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000  # and of all tenants
    queued_mib: Annotated[int, Field(ge=2, le=4_096)] = 64


class SegmentationDefaults(BaseModel):
    """What segmentation uses for tenants that set nothing else (times in event time)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leader: Literal["off", "on"] = "on"
    threshold: Literal["off", "on"] = "off"
    gradient: Annotated[float, Field(ge=0.0, le=1e300)] = 0.2
    cpd: Literal["off", "glr", "bocpd"] = "glr"
    hmm: Literal["off", "on"] = "off"
    min_gap_ms: Annotated[float, Field(ge=0.0, le=YEAR_MS)] = 0.0
    max_dwell_ms: Annotated[float, Field(ge=0.0, le=YEAR_MS)] = 0.0
    warmup: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    domains_max: Annotated[int, Field(ge=1, le=1_000_000)] = 256


class JournalSettings(BaseModel):
    """Where the doors keep accepted events while PostgreSQL is away, and how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None  # default: journal in `home`; a local disk, one per process
    max_mb: Annotated[int, Field(ge=16, le=1 << 20)] = 1024
    file_mb: Annotated[int, Field(ge=1, le=1024)] = 64
    file_age_s: Annotated[float, Field(ge=1.0, le=86_400.0)] = 3600.0
    retention_days: Annotated[float, Field(ge=0.0, le=3650.0)] = 7.0
    batch: Annotated[int, Field(ge=1, le=1000)] = 500


class OutboxDefaults(BaseModel):
    """How the relay brings PostgreSQL's outbox to Kafka."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Rows of one transaction; a shard's tenants share them (`batch_per_tenant` at most for one).
    batch: Annotated[int, Field(ge=1, le=50_000)] = 5_000
    batch_per_tenant: Annotated[int, Field(ge=1, le=50_000)] = 5_000
    # A tenant's rows a minute, as a token bucket of that size; 0: as many as there are.
    quota_per_minute: Annotated[int, Field(ge=0, le=100_000_000)] = 1_000
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    retry_first_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 1.0
    retry_longest_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 300.0
    retention_days: Annotated[float, Field(gt=0.0, le=3650.0)] = 7.0
    # Shards that send at the same time, and connections. Others' rows gather meanwhile: under
    # load fewer, larger transactions, which come sooner.
    parallel: Annotated[int, Field(ge=1, le=16)] = 4


class ApiSettings(BaseModel):
    """The HTTP doors (`soma api`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    # "off" opens every door to everybody, and is for this machine alone.
    auth: Literal["jwt", "off"] = "jwt"
    jwt_secret: SecretStr = SecretStr("")  # HS256; or RS256 with one of the next two
    jwt_secret_file: Path | None = None
    jwks_url: HttpUrl = ""
    jwks_file: Path | None = None
    jwt_issuer: str = ""
    # Without it any audience is taken: set it where the issuer serves others than these doors too.
    jwt_audience: str = ""
    jwt_leeway_s: Annotated[int, Field(ge=0, le=60)] = 5

    body_bytes_max: Annotated[int, Field(ge=1024, le=64 << 20)] = 4 << 20
    body_timeout_s: Annotated[float, Field(gt=0.0, le=300.0)] = 10.0
    timeout_s: Annotated[float, Field(gt=0.0, le=300.0)] = 10.0
    batch_max: Annotated[int, Field(ge=1, le=1000)] = 1000
    # A tenant's events and questions, and each full 4 kB of a body; each process counts its own.
    rate_per_s: Positive = 5_000.0
    rate_burst: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256  # a quarter of it for one tenant
    connections: Annotated[int, Field(ge=1, le=100)] = 8  # to PostgreSQL
    journal: Literal["on", "off"] = "on"  # whether events are taken while PostgreSQL is away


class Settings(BaseSettings):
    """The deployment's settings. Use `load()`; pass values by name in tests."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Path("~/.soma")
    # Where compiled kernels are kept; read before there are settings (topics/compiled.py).
    kernels_dir: Path | None = None
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")] = ""
    agents: Annotated[tuple[str, ...], NoDecode] = ()

    kafka_bootstrap: str = ""
    kafka_properties: Annotated[dict[str, str], NoDecode] = Field(default={}, repr=False)
    topics_partitions: Annotated[int, Field(ge=1, le=10_000)] | None = None
    topics_replication: Annotated[int, Field(ge=1, le=9)] = 3
    schema_registry_url: str = ""
    redis_url: SecretStr = SecretStr("")
    postgres_dsn: SecretStr = SecretStr("")

    web_host: Host = "127.0.0.1"
    web_port: Annotated[int, Field(ge=0, le=65_535)] = 6066
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=lambda: os.cpu_count() or 1
    )
    session_timeout_s: Annotated[float, Field(gt=0.0, le=90.0)] = 10.0
    heartbeat_s: Positive = 2.0
    rebalance_timeout_s: Positive = 20.0
    answer_timeout_s: Annotated[float, Field(ge=1.0, le=60.0)] = 15.0  # one answer of the broker
    commit_timeout_s: Annotated[float, Field(ge=1.0, le=55.0)] = 30.0  # one transaction
    stalled_after_s: Annotated[float, Field(ge=1.0, le=3600.0)] = 30.0  # without a commit
    fetch_bytes: Annotated[int, Field(ge=65_536, le=64 << 20)] = 1 << 20
    batch_records_max: Annotated[int, Field(ge=1, le=1_000_000)] = 40_000
    batch_unpacked_bytes_max: Annotated[int, Field(ge=2 << 20, le=1 << 30)] = 64 << 20
    forget_after_s: Annotated[int, Field(ge=60, le=315_360_000)] = 30 * 86_400

    policy_dir: Path | None = None
    opa_url: HttpUrl = ""
    opa_token: SecretStr = SecretStr("")
    opa_timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 1.0
    opa_fail_open: bool = False

    memory_http_endpoint: Annotated[HttpUrl, Field(pattern="^[^@]*$")] = ""
    memory_http_token: SecretStr = SecretStr("")

    integrator: IntegratorDefaults = IntegratorDefaults()
    predictors: PredictorDefaults = PredictorDefaults()
    segmentation: SegmentationDefaults = SegmentationDefaults()
    projections: ProjectionSettings = ProjectionSettings()
    journal: JournalSettings = JournalSettings()
    outbox: OutboxDefaults = OutboxDefaults()
    gateway: GatewaySettings = GatewaySettings()
    api: ApiSettings = ApiSettings()

    _local: bool = PrivateAttr(default=False)

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

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return _expanded(home)

    @field_validator("policy_dir")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return None if folder is None else _expanded(folder)

    @field_validator("kafka_bootstrap")
    @classmethod
    def _addresses(cls, value: str) -> str:
        return addresses.servers(value)

    @field_validator("redis_url", "postgres_dsn")
    @classmethod
    def _secret_urls(cls, value: SecretStr) -> SecretStr:
        addresses.url(value.get_secret_value())
        return value

    @field_validator("agents", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        rooms = value.split(",") if isinstance(value, str) else value
        if not isinstance(rooms, list | tuple):
            return rooms
        names = tuple(str(room).strip() for room in rooms if str(room).strip())
        if wrong := [name for name in names if not ROOM_NAME.fullmatch(name)]:
            raise ValueError(f"no room can be named {', '.join(wrong)}; give names such as a,b")
        return names

    @field_validator("kafka_properties", mode="before")
    @classmethod
    def _properties(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            parsed: object = strictjson.parse(value)
            return parsed
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        # What isn't surely a name may be the end of a password: it is never shown.
        if any(not equals or not PROPERTY.fullmatch(name.strip()) for name, equals, _ in pairs):
            raise ValueError(
                'give "name=value,name=value", or a JSON object where a value has a comma '
                "or a name has no dot"
            )
        return {name.strip(): text.strip() for name, _, text in pairs}

    @field_validator("kafka_properties")
    @classmethod
    def _not_ours(cls, given: dict[str, str]) -> dict[str, str]:
        if taken := [name for name in OURS if name in given]:
            wanted = ", ".join(f"{name} by {OURS[name]}" for name in taken)
            raise ValueError(f"these are set elsewhere: {wanted}")
        addresses.files(given)
        return given

    @field_validator("schema_registry_url")
    @classmethod
    def _no_registry(cls, value: str) -> str:
        if value:
            raise ValueError("a schema registry isn't supported: ids come from avro/ids.json")
        return value

    @model_validator(mode="after")
    def _timeouts(self) -> Self:
        if self.heartbeat_s * 3 > self.session_timeout_s:
            raise ValueError("SOMA_HEARTBEAT_S must be at most a third of SOMA_SESSION_TIMEOUT_S")
        return self

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.opa_url and self.policy_dir is not None:
            raise ValueError("SOMA_POLICY_DIR and SOMA_OPA_URL exclude each other: keep one")
        return self

    @model_validator(mode="after")
    def _local_stack(self) -> Self:
        """Fill what was left empty from the local stack, if there is one."""
        if self.kafka_bootstrap and self.redis_url and self.postgres_dsn:
            return self
        noted = stack_endpoints(self.home)
        if not self.kafka_bootstrap and noted.get("kafka_bootstrap"):
            self._fill("kafka_bootstrap", noted["kafka_bootstrap"])
            self._local = True
            if "topics_partitions" not in self.model_fields_set:
                self._fill("topics_partitions", LOCAL_PARTITIONS)
            if "topics_replication" not in self.model_fields_set:
                self._fill("topics_replication", 1)
        for name in ("redis_url", "postgres_dsn"):
            if not getattr(self, name) and noted.get(name):
                self._fill(name, SecretStr(noted[name]))
        return self

    def _fill(self, name: str, value: object) -> None:
        self.__dict__[name] = value  # frozen to everybody else

    @property
    def local(self) -> bool:
        """Whether the broker is the local stack's."""
        return self._local

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
        given = {_property(name): value for name, value in more.items()}
        return quiet | self.kafka_properties | given

    def shown(self) -> dict[str, Any]:
        """All values as JSON data, secrets hidden."""
        data = self.model_dump(mode="json")
        data["kafka_properties"] = {
            name: HIDDEN if re.search("password|secret|key|token|oauth", name) else value
            for name, value in self.kafka_properties.items()
        }
        return data


def load() -> Settings:
    """Read the settings from the environment; `SettingsError` names everything that is wrong."""
    errors = [f"{name}: there is no such setting" for name in _unknown(os.environ)]
    secrets = os.environ.get(SECRETS_DIR) or None
    if secrets and not Path(secrets).is_dir():
        errors.append(f"{SECRETS_DIR}: {secrets} is no folder")
        secrets = None
    settings = None
    try:
        settings = Settings(_secrets_dir=secrets)
    except ValidationError as error:
        errors.extend(_described(error))
    except SourceError as error:
        errors.append(str(error.__cause__ or error))
    if errors or settings is None:
        between = " " if len(errors) == 1 else "\n"
        raise SettingsError(between.join(["The settings can't be used:", *errors]))
    return settings


def _expanded(folder: Path) -> Path:
    try:
        return folder.expanduser().absolute()
    except RuntimeError:  # no HOME, and no account with this user's number
        raise ValueError(
            f"{folder} can't be found: there is neither HOME nor an account of user {os.getuid()}; "
            "give a whole path"
        ) from None


def stack_endpoints(home: Path) -> dict[str, str]:
    """What the local stack in `home` answers at; empty if it was never started there."""
    try:
        noted = json.loads((home / "stack.json").read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise ValueError(f"{home / 'stack.json'} can't be read ({error}): remove it") from error
    return {name: str(text) for name, text in noted.get("endpoints", {}).items()}


def _property(name: str) -> str:
    """`enable_auto_commit` → `enable.auto.commit`; librdkafka's own names pass as they are."""
    own = {
        "log_level",
        "error_cb",
        "stats_cb",
        "throttle_cb",
        "oauth_cb",
        "on_commit",
        "on_delivery",
    }
    return name if name in own else name.replace("_", ".")


def _unset(what: str, example: str, home: Path) -> SettingsError:
    return SettingsError(
        f"No {what} is set, and there is no local stack in {home}: "
        f"start one with `soma stack up`, or set {example} to use one of your own."
    )


def _unknown(env: Mapping[str, str]) -> Iterator[str]:
    """Variables with our prefix that set nothing: mistyped more often than not."""
    nested: dict[str, type[BaseModel]] = {
        "INTEGRATOR": IntegratorDefaults,
        "PREDICTORS": PredictorDefaults,
        "SEGMENTATION": SegmentationDefaults,
        "PROJECTIONS": ProjectionSettings,
        "JOURNAL": JournalSettings,
        "OUTBOX": OutboxDefaults,
        "GATEWAY": GatewaySettings,
        "API": ApiSettings,
    }
    plain = {name.upper() for name in Settings.model_fields}
    for variable in sorted(env):
        if not variable.upper().startswith(PREFIX) or variable == SECRETS_DIR:
            continue
        if variable.startswith("SOMA_TEST_"):  # for the tests, which run workers too
            continue
        name, _, rest = variable.upper().removeprefix(PREFIX).partition("__")
        if name in nested and rest:
            # Pydantic itself names a wrong field of a group.
            continue
        if rest or name not in plain:
            yield variable


def _described(error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        path = "__".join(str(part) for part in one["loc"]).upper()
        said = one["msg"].removeprefix("Value error, ")  # pydantic's words before ours
        yield f"{PREFIX}{path}: {said}" if path else said
