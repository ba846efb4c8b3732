"""The Faust app: `faust -A agents.app worker -l info`, or `soma worker`.

Processors are chosen by SOMA_AGENTS. Faust runs the command line, membership, assignment, agents
and the web server; what an agent does with a batch is the engine's.
"""

import asyncio
import faulthandler
import gc
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import faust
import uvloop
from confluent_kafka import KafkaException
from faust.types import TP
from mode import CrashingSupervisor

from agents import addresses
from agents.engine import pages
from agents.engine.bare import build
from agents.engine.compiling import Compiling, CompilingError, misplaced, missing, units
from agents.engine.dealing import ProcessorAssignor
from agents.engine.ending import CLIENTS, calm, end_in
from agents.engine.engine import Engine
from agents.engine.plan import EPOCHS
from agents.engine.processor import Processor
from agents.engine.registry import processors, services
from agents.engine.security import security
from agents.engine.transport import BatchConsumer, BatchSchema
from agents.engine.warm import warm
from agents.history import live
from agents.services.base import Service
from agents.settings import Settings, SettingsError, load
from agents.settings.reading import cognition_off, without_cognition
from stores.postgres import check
from topics import compiled
from topics.broker import BrokerError, connect, look, session_limits_s
from topics.catalogue import dlq_of
from topics.plugins import optional, plugins, refuse
from topics.preflight import check_topics
from topics.registry import RegistryError

log = logging.getLogger(__name__)

TELL_EVERY_S = 10.0  # while kernels compile
# How long a thread keeps the interpreter while others want it. Python's 5 ms are for each step that
# a commit takes in the event loop: beside a law that computes, others' p99 was 375 ms, not 37.
TURN_S = 0.0005


def needs(processor: Processor) -> list[str]:
    """The topics that a processor reads and writes, without namespace."""
    return [
        processor.source,
        *processor.sinks,
        processor.state_topic,
        dlq_of(processor.source),
        EPOCHS,
    ]


def checked(
    settings: Settings, chosen: dict[str, Processor], beside: Sequence[Service] = ()
) -> int:
    """The common partition count of the topics. Raises SettingsError naming every difference."""
    topics = sorted(
        {name for processor in chosen.values() for name in needs(processor)}
        | {name for service in beside for name in service.topics}
    )
    if not topics:
        return 0
    if differences := check_topics(settings, topics):
        lines = "\n  ".join(map(str, differences))
        raise SettingsError(
            "the topics aren't as they must be; `soma topics apply` settles what can be:\n  "
            + lines
        )
    name, admin = settings.topic(topics[0]), connect(settings.librdkafka())
    limits = session_limits_s(admin)
    if limits is not None and not limits[0] <= settings.session_timeout_s <= limits[1]:
        raise SettingsError(
            f"SOMA_SESSION_TIMEOUT_S={settings.session_timeout_s:g}: this broker takes "
            f"{limits[0]:g} to {limits[1]:g} (its group.min and group.max.session.timeout.ms)"
        )
    return look(admin, [name])[name].partitions


def with_fitting_topics(settings: Settings, chosen: dict[str, Processor]) -> dict[str, Processor]:
    """The chosen, without those of packages that needn't be had and whose topics the broker has
    otherwise, or hasn't. Of other packages' topics `checked` tells.
    """
    for plugin in plugins():
        mine = set(plugin.processors) & set(chosen)
        own = {one.name for one in plugin.topics} & {n for p in mine for n in needs(chosen[p])}
        if own and optional(plugin.package) and (wrong := check_topics(settings, sorted(own))):
            refuse(plugin.package, "; ".join(map(str, wrong)))
            chosen = {name: one for name, one in chosen.items() if name not in mine}
    return chosen


def check_port(settings: Settings) -> None:
    """Faust would log a traceback of a port that another worker has."""
    if not settings.web_port:
        return
    at = settings.web_host, settings.web_port
    try:
        family, kind, _, _, place = socket.getaddrinfo(*at, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(place)
    except OSError as error:
        said = addresses.refused(error, at, ("SOMA_WEB_HOST", "SOMA_WEB_PORT"))
        raise SettingsError(said) from error


def register(app: faust.App, engine: Engine) -> None:
    """One agent per processor, and the signals that tell the engine what it owns."""

    def agent(name: str, topic: str) -> None:
        @app.agent(
            app.topic(topic, schema=BatchSchema(allow_empty=False), acks=False),
            name=name,
            supervisor_strategy=CrashingSupervisor,
        )
        async def hand_over(stream: Any) -> None:
            async for event in stream.events():
                engine.offer(TP(event.message.topic, event.message.partition), event.value)

    for source, names in engine.reading.items():
        agent("+".join(names), source)

    @app.on_partitions_assigned.connect
    async def assigned(sender: Any, /, *found: set[TP], **_: Any) -> None:
        await engine.assign(cast(BatchConsumer, app.consumer), set().union(*found))

    @app.on_before_shutdown.connect
    async def stopping(sender: Any, /, *_: Any, **__: Any) -> None:
        end_in()
        await engine.close()

    @app.task
    async def watch() -> None:
        await engine.watch()


def add_services(app: faust.App, chosen: Sequence[Service], engine: Engine) -> None:
    """Start and stop what runs beside the processors with the worker."""
    unstarted = list(chosen)

    def start() -> None:
        while unstarted:  # Faust says `on_worker_init` more than once
            unstarted.pop(0).start(engine.end)

    if engine.plans:

        @app.task
        async def start_services() -> None:
            start()

    else:
        # Faust's tasks begin with the first assignment, and without processors there is none.
        @app.on_worker_init.connect
        def start_at_once(sender: Any, /, *_: Any, **__: Any) -> None:
            start()

    @app.on_before_shutdown.connect
    async def stop_services(sender: Any, /, *_: Any, **__: Any) -> None:
        loop = asyncio.get_running_loop()
        stops = (loop.run_in_executor(None, one.stop, 3.5) for one in chosen)
        await asyncio.gather(*stops)


def compile_ahead(names: list[str], tell: Callable[[str], None]) -> None:
    """Compile what no process has compiled here yet, on all cores: a first start takes a minute."""
    if said := misplaced():
        tell(f"{said}; they are kept in {compiled.config.CACHE_DIR or 'memory alone'}")
    if todo := missing(units(names)) if names else []:
        tell(f"compiling the kernels of {', '.join(todo)}: the first start after an update does")
        try:
            Compiling(todo).wait(
                lambda done, known: tell(f"{done} of {known} kernels"), TELL_EVERY_S
            )
        except CompilingError as error:
            sys.exit(f"soma worker: {error}")


def make() -> tuple[faust.App, Engine]:
    """The app of this process. Exits, naming everything that is wrong, if it can't be."""
    try:
        settings = load()
        security(settings)  # names what is wrong more plainly than a client would
        if dsn := settings.postgres_dsn.get_secret_value():
            check(dsn)
        chosen = with_fitting_topics(settings, processors(settings.agents, partly=True))
        beside = services(settings)
        engine = Engine(settings, chosen, checked(settings, chosen, beside))
        check_port(settings)
        made = build(settings)
    except KafkaException as error:
        sys.exit(f"soma worker: Kafka: {error.args[0].str()}")
    except TimeoutError:
        sys.exit("soma worker: Kafka went away while it was asked about its settings")
    except (SettingsError, BrokerError, RegistryError, ValueError) as error:
        sys.exit(f"soma worker: {error}")
    register(made, engine)
    pages.register(made, engine, beside)
    live.register(made, engine, settings)
    ProcessorAssignor.url = live.url_of(settings)
    if beside:
        add_services(made, beside, engine)

    def tell(text: str) -> None:
        """What a log would say at this level; Faust sets the log up only after this."""
        if settings.log_level in ("debug", "info"):
            print(f"soma worker: {text}", file=sys.stderr, flush=True)

    @made.on_worker_init.connect
    def prepare(sender: Any, /, *_: Any, **__: Any) -> None:
        begun = time.monotonic()
        if off := [name for name in without_cognition(settings) if name in chosen]:
            tell(
                f"cognition is off: {cognition_off(off)}; SOMA_ENABLE_COG_THREADS=1 switches it on"
            )
        compile_ahead([*chosen, *(one.name for one in beside)], tell)
        for plan in engine.plans.values():
            warm(plan, settings)
        for one in beside:
            one.warm()
        tell(f"the kernels are there, after {time.monotonic() - begun:.1f} s")
        gc.collect()
        gc.freeze()  # what is loaded by now stays: don't look at it again
        gc.set_threshold(100_000, 20, 100)
        sys.setswitchinterval(TURN_S)

    return made, engine


faulthandler.enable()  # a crash in C says where
uvloop.install()
calm(*CLIENTS)
app, engine = make()
