"""The command line: verbs load when they are used, errors are one clear message."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agents.cli import VERBS, LazyGroup, Verb, main
from agents.settings.reading import declared, fields, tree_of

REPO = Path(__file__).resolve().parents[3]


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
    "numba", "llvmlite", "scipy", "numpy", "pydantic", "faust", "aiokafka", "asyncpg", "redis",
    "aiohttp", "httpx", "fastapi", "uvicorn", "uvloop", "prometheus_client", "regopy", "matplotlib",
    "plotext",
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


def test_help_needs_neither_a_home_nor_an_account() -> None:
    """A container's user may have none; SOMA_HOME then says where things are kept."""
    code = """
import pwd
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
from agents.cli import main
from agents.commands.actor import user
from click.testing import CliRunner
from tests.unit.agents.test_cli import leaves
for words in [(), *leaves(main, ())]:
    told = CliRunner().invoke(main, [*words, "--help"])
    assert told.exit_code == 0, (words, told.exception)
print(len(words), user())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"SOMA_HOME": "/nowhere"}, cwd=REPO, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.endswith(" unknown\n")


def test_users_read_the_words_of_the_field() -> None:
    ours = re.compile(r"\b(rooms?|doors?)\b", re.IGNORECASE)
    asked = [[*words, "--help"] for words in [(), *leaves(main, ())]]
    for words in [*asked, ["api", "--help"], ["api", "openapi"]]:
        told = CliRunner().invoke(main, words)
        assert told.exit_code == 0, told.output
        assert not ours.findall(told.output), words


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
    assert "SOMA_AGENTS=integrator,predictors  # environment\n" in plain
    assert "SOMA_INTEGRATOR__ALPHA=2.0  # default\n" in plain


def test_settings_print_says_where_each_value_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stack.json").write_text('{"endpoints": {"kafka_bootstrap": "127.0.0.1:1"}}')
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "SOMA_OPA_TOKEN").write_text("geheim")
    (tmp_path / "secrets" / "soma_api__rate_burst").write_text("7")
    (tmp_path / "secrets" / "SOMA_NAMESPACE").write_text("overridden")
    monkeypatch.setenv("SOMA_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    monkeypatch.setenv("SOMA_NAMESPACE", "red")
    monkeypatch.setenv("SOMA_JOURNAL", '{"max_mb": 32}')
    monkeypatch.setenv("SOMA_WEB_PORT", "")
    monkeypatch.setenv("SOMA_FORGET_AFTER_S", "90")
    monkeypatch.setenv("SOMA_INTEGRATOR__FORGET_AFTER_S", "70")
    told = CliRunner().invoke(main, ["settings", "print"])
    lines = dict(line.split("=", 1) for line in told.output.splitlines())
    wanted = {
        "SOMA_NAMESPACE": "red  # environment", "SOMA_OPA_TOKEN": "**********  # file",
        "SOMA_API__RATE_BURST": "7  # file", "SOMA_JOURNAL__MAX_MB": "32  # environment",
        "SOMA_JOURNAL__BATCH": "500  # default", "SOMA_WEB_PORT": "6066  # default",
        "SOMA_KAFKA_BOOTSTRAP": "127.0.0.1:1  # local stack",
        "SOMA_TOPICS_PARTITIONS": "4  # local stack", "SOMA_SEGMENTATION__CPD": "glr  # default",
        "SOMA_INTEGRATOR__FORGET_AFTER_S": "70.0  # environment",
        "SOMA_PREDICTORS__FORGET_AFTER_S": "90  # SOMA_FORGET_AFTER_S",
    }  # fmt: skip
    assert wanted.items() <= lines.items()
    data = json.loads(CliRunner().invoke(main, ["settings", "print", "--json"]).output)
    assert (data["namespace"], data["api"]["rate_burst"]) == ("red", 7)
    assert data["origins"] == {name: text.split("  # ")[1] for name, text in lines.items()}


def test_the_page_of_settings_is_what_the_declarations_say() -> None:
    page = (REPO / "ops" / "SETTINGS.md").read_text(encoding="utf-8")
    told = CliRunner().invoke(main, ["settings", "reference"])
    assert page == told.output, "`soma settings reference > ops/SETTINGS.md` writes it anew"
    data = json.loads(CliRunner().invoke(main, ["settings", "reference", "--json"]).output)
    known = {name for name, _ in fields(tree_of(declared()))}
    rows = [row for section in data.values() for row in section]
    assert {row["variable"] for row in rows} == known and len(rows) == len(known)
    assert all(row["help"] and row["values"] for row in rows)


def test_config_list_says_what_each_setting_can_be() -> None:
    told = CliRunner().invoke(main, ["config", "list"])
    assert told.exit_code == 0, told.output
    assert "(a number above 0 up to 31622400000 ms; default 10000.0)" in told.output
    data = json.loads(CliRunner().invoke(main, ["config", "list", "--json"]).output)
    assert "one of hedge, fixed_share, softmax" in data["integrator"]["fusion"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cpu", "margin", "5"], "margin of cpu can't be '5': margin is a number from 0 to 1"),
        (["cpu", "alpha", "1"], "integrator, predictors have a setting 'alpha': say which by"),
        (["cpu", "colour"], "There is no setting 'colour'; there are"),
        (["cpu", "margin@state", "0"], "margin is the tenant's: it can't be set for a domain"),
        (["cpu", "leader@state", "on"], "leader is the tenant's: it can't be set for a domain"),
        (["cpu", "integrator.margin", "5"], "margin of cpu can't be '5': margin is a number"),
        (["cpu", "x.margin", "0"], "There is no processor 'x'; there are"),
        (["cpu", "cpd@a.b", "5"], "cpd@a.b of cpu can't be '5'"),
        (
            ["cpu", "integrator.margin", "0", "--processor", "predictors"],
            "integrator.margin is a setting of integrator, not of predictors",
        ),
        (["cpu", "cpd@a b", "off"], "'a b' can't be a domain"),
        (["cpu", "margin", "0", "--processor", "x"], "There is no processor 'x'; there are"),
        (
            ["cpu", "cpd", "off", "--processor", "integrator"],
            "integrator has no setting 'cpd' (but",
        ),
        (["a b", "margin", "0"], "'a b' can't be a tenant"),
    ],
)
def test_config_set_refuses_before_anything_is_sent(words: list[str], said: str) -> None:
    told = CliRunner().invoke(main, ["config", "set", *words])
    assert told.exit_code == 1
    assert said in told.output


def test_the_doctor_names_what_is_missing() -> None:
    told = CliRunner().invoke(main, ["doctor"])
    assert told.exit_code == 1
    assert "SOMA_KAFKA_BOOTSTRAP" in told.output
    assert "SOMA_REDIS_URL" in told.output
