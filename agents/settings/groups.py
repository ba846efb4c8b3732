"""The deployment's settings of what runs beside the processors."""

from typing import Literal

from pydantic import SecretStr

from agents.settings.fields import Group, Host, HttpUrl, WholePath, setting


class ProjectionSettings(Group):
    """What is kept in PostgreSQL beyond the last frame of each tenant."""

    history: str = setting(
        "1s",
        "which frames the table of history keeps",
        pattern=r"^(off|all|1/[1-9]\d{0,6}|[1-9]\d{0,6}(ms|s))$",
        values="off, all, 1/N (every n-th), or 1s, 500ms … (a tenant's first in each)",
    )
    history_days: int = setting(7, "how long they are kept", 1, 3650)
    memories: Literal["on", "off"] = setting(
        "on", "whether memories are kept there, too: keyword search asks for it"
    )


class GatewaySettings(Group):
    """How the remote memory service is called; the breaker's numbers are those of its law."""

    timeout_s: float = setting(5.0, "one call, to its last byte", 0, 60, above=True)
    concurrency: int = setting(32, "quick calls at a time", 1, 1_000)
    slow_concurrency: int = setting(256, "slow and failing calls at a time", 1, 1_000)
    failures: int = setting(3, "failures in a row that open a tenant's circuit", 1, 100)
    open_s: float = setting(60.0, "how long a circuit stays open", 0, 86_400)
    health_every_s: float = setting(
        5.0, "between two looks at the service's health", 0, 3_600, above=True
    )
    lane_events: int = setting(200, "events of a tenant held in memory", 1, 10_000)
    queued_events: int = setting(20_000, "and of all tenants", 1, 1_000_000)
    queued_mib: int = setting(64, "and their size", 2, 4_096)
    sleep: Literal["on", "off"] = setting(
        "on", "whether a tenant is to sleep (freeze) while its circuit is open"
    )


class JournalSettings(Group):
    """Where the HTTP API keeps accepted events while PostgreSQL is away, and how much."""

    folder: WholePath | None = setting(
        None, "one for each process, on a local disk; not set: journal in SOMA_HOME"
    )
    max_mb: int = setting(1024, "of all files", 16, 1 << 20)
    file_mb: int = setting(64, "of a file before the next is begun", 1, 1024)
    file_age_s: float = setting(3600.0, "age of a file before the next is begun", 1, 86_400)
    retention_days: float = setting(7.0, "how long delivered files are kept", 0, 3650)
    batch: int = setting(500, "events brought in at a time", 1, 1000)


class OutboxDefaults(Group):
    """How the relay brings PostgreSQL's outbox to Kafka."""

    batch: int = setting(5_000, "rows of one transaction, which a shard's tenants share", 1, 50_000)
    batch_per_tenant: int = setting(5_000, "of them for one tenant", 1, 50_000)
    quota_per_minute: int = setting(
        1_000, "a tenant's rows a minute, a token bucket; 0: any number", 0, 100_000_000
    )
    retries: int = setting(5, "of an event before it fails", 0, 100)
    retry_first_s: float = setting(
        1.0, "before the first retry; each waits twice as long", 0, 3600, above=True
    )
    retry_longest_s: float = setting(300.0, "between two retries at most", 0, 86_400, above=True)
    retention_days: float = setting(
        7.0, "how long rows and their dedupe keys are kept", 0, 3650, above=True
    )
    # Others' rows gather meanwhile: under load fewer, larger transactions, which come sooner.
    parallel: int = setting(4, "shards that send at a time, and connections", 1, 16)


class ApiSettings(Group):
    """The HTTP API (`soma api`)."""

    host: Host = setting("127.0.0.1", "address to listen at")
    port: int = setting(8080, "port to listen at; 0: a free one", 0, 65_535)
    auth: Literal["jwt", "off"] = setting(
        "jwt", "off opens everything to everybody, and is for this machine alone"
    )
    jwt_secret: SecretStr = setting(
        SecretStr(""), "key of HS256; or RS256, with one of the next two"
    )
    jwt_secret_file: WholePath | None = setting(None, "file with the key of HS256")
    jwks_url: HttpUrl = setting("", "where the keys of RS256 are", values="an http(s) URL")
    jwks_file: WholePath | None = setting(None, "file with the keys of RS256")
    jwt_issuer: str = setting("", "the only issuer whose tokens are taken; not set: any")
    jwt_audience: str = setting(
        "", "the only audience taken; not set: any (set it where the issuer serves others)"
    )
    jwt_leeway_s: int = setting(5, "how far clocks may differ", 0, 60)
    body_bytes_max: int = setting(4 << 20, "of a body, longer ones are refused", 1024, 64 << 20)
    body_timeout_s: float = setting(10.0, "for a body to arrive", 0, 300, above=True)
    timeout_s: float = setting(10.0, "for an answer", 0, 300, above=True)
    batch_max: int = setting(1000, "events of one request", 1, 1000)
    rate_per_s: float = setting(
        5_000.0,
        "a tenant's events and questions, and each full 4 kB of a body, in each process",
        0,
        above=True,
    )
    rate_burst: int = setting(10_000, "of them at once", 1, 10_000_000)
    concurrency: int = setting(
        256, "requests at a time, a quarter of them for one tenant", 1, 10_000
    )
    connections: int = setting(8, "to PostgreSQL", 1, 100)
    journal: Literal["on", "off"] = setting(
        "on", "whether events are taken while PostgreSQL is away"
    )


class McpSettings(Group):
    """Memories as tools (`soma mcp --http`), by the HTTP API, whose tokens it takes."""

    host: Host = setting("127.0.0.1", "address to listen at")
    port: int = setting(8090, "port to listen at; 0: a free one", 0, 65_535)
    calls: int = setting(64, "of tools at a time, a quarter of them for one tenant", 1, 10_000)


class RecallSettings(Group):
    """Memories found again: in `soma recall`, or in `soma api` where `serve` is on."""

    serve: Literal["on", "off"] = setting(
        "off", "whether `soma api` answers searches, too: it holds all memories then"
    )
    bits: Literal["32", "16", "8"] = setting(
        "32", "of each number of a vector: at 32 a search is exact, at 16 it takes half the memory"
    )
    provider: Literal["ngrams", "http", "off"] = setting(
        "ngrams",
        "what makes vectors of memories that come without one, and of questions; http: a server "
        "of OpenAI's /v1/embeddings",
    )
    dimension: int = setting(384, "of the vectors that it makes", 8, 4096)
    embedding_url: HttpUrl = setting(
        "", "of that server, /v1/embeddings is put behind it", values="an http(s) URL"
    )
    embedding_model: str = setting("", "asked for there")
    embedding_revision: str = setting(
        "", "name another where the model behind its name changes: all is embedded anew"
    )
    embedding_token: SecretStr = setting(SecretStr(""), "sent to it")
    embedding_timeout_s: float = setting(5.0, "one call", 0, 300, above=True)
    embedding_batch: int = setting(64, "texts of one call", 1, 2048)
    alpha: float = setting(1.0, "power of the importance in a score; 0: it doesn't count", 0, 10)
    half_life_s: float = setting(
        0.0, "age at which a memory's score is halved; 0: it is never", 0, 3_153_600_000
    )
    folder: WholePath | None = setting(
        None, "where a node keeps its snapshot; not set: recall in SOMA_HOME"
    )
    snapshot_every_s: float = setting(
        3600.0, "between snapshots, which let a node start quickly; 0: none", 0, 82_800
    )


class RhoSettings(Group):
    """Density matrices (ρ): PostgreSQL keeps them, Redis answers reads."""

    dimension_max: int = setting(1024, "rows and columns at most", 1, 2048)
    cache_s: float = setting(
        60.0,
        "how long Redis keeps a matrix: a commit that it didn't take may go unseen for so long",
        30,  # longer than any read that brings one there from PostgreSQL
        3600,
    )
    connections: int = setting(4, "of `soma api` to PostgreSQL for them", 1, 100)
