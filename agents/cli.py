"""`soma`: one command whose verbs are loaded when they are used, so that each starts quickly."""

import errno
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from agents.tools.signals import as_ctrl_c, status


class Verb(NamedTuple):
    """Where a verb's click command lives ("module:attribute") and its line in the help."""

    target: str
    help: str


# A disk that is full or can't be written, a file that isn't ours: a traceback explains nothing.
AROUND_US = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE,
)  # fmt: skip

VERBS = {
    "worker": Verb("agents.commands.worker:worker", "Run stream processors."),
    "relay": Verb("agents.commands.relay:relay", "Bring PostgreSQL's outbox to Kafka."),
    "gateway": Verb("agents.commands.gateway:gateway", "Show what a remote memory still lacks."),
    "stack": Verb("agents.commands.stack:stack", "Start and stop the servers on this machine."),
    "topics": Verb("agents.commands.topics:topics", "Compare the topics with the catalogue."),
    "schema": Verb("agents.commands.schema:schema", "Check that schemas stay compatible."),
    "migrate": Verb("agents.commands.migrate:migrate", "Bring PostgreSQL's schema up to date."),
    "projection": Verb("agents.commands.projection:projection", "Show, drop, rebuild projections."),
    "journal": Verb("agents.commands.journal:journal", "What waits here while PostgreSQL is away."),
    "outbox": Verb("agents.commands.outbox:outbox", "Show, replay, skip what the outbox holds."),
    "digest": Verb("agents.commands.digest:digest", "Hash a state, and prove it from the log."),
    "state": Verb("agents.commands.state:state", "Show a tenant's state, now or as it was."),
    "explain": Verb("agents.commands.explain:explain", "Say what one record did, and why."),
    "diff": Verb("agents.commands.diff:diff", "Show what became of a tenant's state."),
    "snapshot": Verb("agents.commands.snapshot:snapshot", "Take, list and verify snapshots."),
    "replay": Verb("agents.commands.replay:replay", "Do the past of a topic again, by jobs."),
    "sleep": Verb("agents.commands.sleep:sleep", "Let a tenant sleep, wake it, show who sleeps."),
    "canary": Verb("agents.commands.canary:canary", "Try a setting on some tenants."),
    "shadow": Verb("agents.commands.shadow:shadow", "See what settings would do to some tenants."),
    "skip": Verb("agents.commands.skip:skip", "Pass over a record at which a law fails."),
    "dlq": Verb("agents.commands.dlq:dlq", "Show dead letters, mend and redrive them."),
    "publish": Verb("agents.commands.publish:publish", "Publish JSON lines to a topic."),
    "watch": Verb("agents.commands.watch:watch", "Print a topic's decoded records."),
    "api": Verb("agents.commands.api:api", "Run the HTTP API: events, memories, admin."),
    "recall": Verb("agents.commands.recall:recall", "Run the HTTP API with all memories in it."),
    "memory": Verb("agents.commands.memory:memory", "Remember, find, link and forget things."),
    "mcp": Verb("agents.commands.mcp:mcp", "Give agents memories as tools of MCP."),
    "rho": Verb("agents.commands.rho:rho", "Commit and read density matrices."),
    "observe": Verb("agents.commands.observe:observe", "Publish observations of this machine."),
    "segment": Verb("agents.commands.segment:segment", "Find the changes of a series in a file."),
    "demo": Verb("agents.commands.demo:demo", "Watch a live stream become frames."),
    "warm": Verb("agents.commands.warm:warm", "Compile the kernels ahead of the first start."),
    "new": Verb("agents.commands.new:new", "Write a processor of your own, with its test."),
    "config": Verb("agents.commands.config:config", "Change a tenant's settings in band."),
    "policy": Verb("agents.commands.policy:policy", "Try out the policy that may veto a leader."),
    "bench": Verb("agents.commands.bench:bench", "Measure this engine beside its peers."),
    "settings": Verb("agents.commands.settings:settings", "Show the settings in force."),
    "doctor": Verb("agents.commands.doctor:doctor", "Say what is missing or wrong here."),
}


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, verb in VERBS.items() if _installed(verb)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, _, attribute = VERBS[cmd_name].target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{VERBS[cmd_name].target} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click's own would import every verb for its line of help.
        rows = [(name, VERBS[name].help) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Verbs"):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with told():  # --help and --version write in here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with told():
            try:
                with as_ctrl_c():
                    done = super().invoke(ctx)
            except KeyboardInterrupt as interrupt:
                click.echo("Aborted!", err=True)
                sys.exit(status(interrupt))
            sys.stdout.flush()  # here, where a full disk can still be told in words
            return done


@contextmanager
def told() -> Iterator[None]:
    """Say in one line what is wrong around us. ClickException; a defect passes as it is."""
    try:
        yield
    except Exception as error:
        if (text := in_words(error)) is None:
            raise
        raise click.ClickException(text) from error


def in_words(error: Exception) -> str | None:
    """What is wrong around us, in one line: settings, a disk, a broker. None for a defect."""
    ours = sys.modules.get("agents.settings")  # not imported for the help of all verbs
    if ours is not None and isinstance(error, ours.SettingsError):
        return str(error)
    registry = sys.modules.get("topics.registry")
    if registry is not None and isinstance(error, registry.RegistryError):
        return str(error)
    if isinstance(error, OSError) and error.errno in AROUND_US:
        if error.errno == errno.ENOSPC and error.filename is None:
            # What couldn't be written would be tried once more, with a traceback, at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return f"{error.strerror}: {error.filename or 'the output'}"
    client = sys.modules.get("confluent_kafka")
    if client is not None and isinstance(error, client.KafkaException):
        first = error.args[0] if error.args else error
        return f"Kafka: {first.str() if isinstance(first, client.KafkaError) else first}"
    return None


def _installed(verb: Verb) -> bool:
    return importlib.util.find_spec(verb.target.partition(":")[0]) is not None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="soma-stream", prog_name="soma")
def main() -> None:
    """Soma Stream: agents that perceive, predict and remember, on Kafka.

    \b
    Start here:
      soma demo
    """


if __name__ == "__main__":
    main()
