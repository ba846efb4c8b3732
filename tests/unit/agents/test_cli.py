"""The command line: verbs load when they are used, errors are one clear message."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from agents.cli import VERBS, LazyGroup, Verb, main


def test_help_lists_the_verbs_without_importing_them() -> None:
    code = (
        "import sys\nfrom agents.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith('agents.commands.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stack" in done.stdout
    assert "doctor" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        if (one := command.get_command(context, name)) is not None:
            yield from leaves(one, (*path, name))


# What takes a tenth of a second or more to import, or speaks to a server.
HEAVY = (
    "numba", "llvmlite", "scipy", "numpy", "faust", "aiokafka", "asyncpg", "redis", "aiohttp",
    "httpx", "fastapi", "uvicorn", "uvloop", "prometheus_client", "regopy", "matplotlib", "plotext",
)  # fmt: skip


def test_no_help_imports_what_is_slow_to_load() -> None:
    code = f"""
import sys
from click.testing import CliRunner
from agents.cli import VERBS, main
for words in ([], *([verb] for verb in VERBS)):
    before = set(sys.modules)
    assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0, words
    if found := (set(sys.modules) - before).intersection({HEAVY}):
        print(*words, "imports", *sorted(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize("words", list(leaves(main, ())), ids=" ".join)
def test_every_verb_has_help_with_an_example(words: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*words, "--help"])
    assert told.exit_code == 0, told.output
    assert f"soma {' '.join(words)}" in told.output


def test_a_verb_that_is_not_installed_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERBS, "ghost", Verb("agents.commands.ghost:ghost", "Not there."))
    assert isinstance(main, LazyGroup)
    told = CliRunner().invoke(main, ["--help"])
    assert "ghost" not in told.output
    assert CliRunner().invoke(main, ["ghost"]).exit_code == 2


def test_wrong_settings_are_a_message_not_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_WEB_PROT", "1")
    told = CliRunner().invoke(main, ["settings", "print"])
    assert told.exit_code == 1
    assert "SOMA_WEB_PROT" in told.output
    assert "Traceback" not in told.output


def test_settings_print_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_POSTGRES_DSN", "postgresql://u:geheim@db/x")
    monkeypatch.setenv("SOMA_AGENTS", "integrator,predictors")
    for words in (["settings", "print"], ["settings", "print", "--json"]):
        told = CliRunner().invoke(main, words)
        assert told.exit_code == 0, told.output
        assert "geheim" not in told.output
    plain = CliRunner().invoke(main, ["settings", "print"]).output
    assert "SOMA_AGENTS=integrator,predictors\n" in plain
    assert "SOMA_INTEGRATOR__ALPHA=2.0\n" in plain


def test_the_doctor_names_what_is_missing() -> None:
    told = CliRunner().invoke(main, ["doctor"])
    assert told.exit_code == 1
    assert "SOMA_KAFKA_BOOTSTRAP" in told.output
    assert "SOMA_REDIS_URL" in told.output
