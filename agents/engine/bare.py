"""A bare Faust app with this deployment's settings: no processor yet, nothing asked of a broker."""

import sys
from typing import NoReturn

import faust

from agents.engine.ending import leave
from agents.engine.security import credentials
from agents.engine.transport import BatchConsumer, BatchTransport
from agents.settings import Settings, SettingsError

BUFFER = 256  # events that a stream holds; a partition pauses itself long before


class Worker(faust.Worker):
    """Faust's, but for how it ends: when all has let go the process does, at once (`leave`)."""

    def execute_from_commandline(self) -> NoReturn:
        """Until a signal or a crash. The status is Faust's."""
        try:
            super().execute_from_commandline()
        except SystemExit as ending:
            leave(ending.code if isinstance(ending.code, int) else 1)

    def _shutdown_loop(self) -> None:
        """Faust sleeps here for up to two seconds, for tasks of others; ours have been awaited."""
        if self.crash_reason is not None or sys.exc_info()[0] is not None:
            super()._shutdown_loop()  # and tells what it was
        else:
            leave(0)


def build(settings: Settings) -> faust.App:
    """The app; what the environment says to Faust itself counts for nothing. SettingsError."""
    scratch = settings.home / "worker"  # Faust wants a folder; nothing of ours is in it
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{scratch} can't be made: {error.strerror}: set SOMA_HOME") from error
    bootstrap = ";".join(f"kafka://{server}" for server in settings.bootstrap().split(","))
    app = faust.App(
        settings.prefix("soma"),
        broker=bootstrap,
        broker_credentials=credentials(settings),
        store="memory://",
        Worker=Worker,
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        worker_redirect_stdouts=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port or None,
        web_enabled=settings.web_port != 0,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFER,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_request_timeout=90.0,
        broker_max_poll_records=500,  # batches, not records
        consumer_max_fetch_size=settings.fetch_bytes,
        consumer_metadata_max_age_ms=10_000,  # how soon a recreated topic is found
        consumer_auto_offset_reset="none",  # positions come from the state, never from a policy
        datadir=str(scratch),
        env={},  # what it says (BROKER_URL, WEB_PORT and so on) Faust would put before all of this
    )
    # Nothing is sent by Faust, so there is no broker to be asked for its producer.
    app.boot_strategy.enable_kafka_producer = False
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    BatchConsumer.answer_s = settings.answer_timeout_s
    return app
