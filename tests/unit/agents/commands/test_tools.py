"""What the commands refuse before they speak to any server."""

import json

import pytest
from click.testing import CliRunner

from agents.cli import main


def soma(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, words, input="")
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("verb", ["publish", "watch", "observe", "demo", "config"])
def test_help_has_an_example(verb: str) -> None:
    status, text, _ = soma(verb, "--help")
    assert status == 0
    assert f"soma {verb}" in text or verb == "config"


@pytest.mark.parametrize("command", ["set", "get", "history", "diff", "rollback"])
def test_help_of_config_has_an_example(command: str) -> None:
    assert f"soma config {command}" in soma("config", command, "--help")[1]


@pytest.mark.parametrize("verb", ["publish", "watch"])
def test_an_unknown_topic(verb: str) -> None:
    status, _, text = soma(verb, "cog.global.frames")
    assert status == 1
    assert "Did you mean cog.global.frame?" in text


@pytest.mark.parametrize("topic", ["cog.global.frame", "soma.integrator.state", "soma.epochs"])
def test_topics_of_the_processors_cant_be_published_to(topic: str) -> None:
    status, _, text = soma("publish", topic)
    assert status == 1
    assert "Topics for you: cog.observations, cog.predictor.updates" in text


@pytest.mark.parametrize("start", ["-1", "now", "1.5", "٣"])
def test_a_start_that_is_none(start: str) -> None:
    status, _, text = soma("watch", "cog.global.frame", f"--from={start}")
    assert status == 2
    assert "neither beginning nor end nor an offset" in text


@pytest.mark.parametrize("verb", ["observe", "demo"])
def test_a_tenant_that_the_machine_hasnt(verb: str) -> None:
    status, _, text = soma(verb, "--tenants", "cpu,gpu")
    assert status == 2
    assert "gpu is none of cpu, memory, disk, network" in text


def test_no_broker_says_how_to_get_one() -> None:
    status, _, text = soma("watch", "cog.global.frame")
    assert status == 1
    assert "soma stack up" in text and "SOMA_KAFKA_BOOTSTRAP" in text


def test_observe_prints_what_it_would_publish() -> None:
    status, text, _ = soma("observe", "--json", "--count", "2", "--interval", "0.01")
    assert status == 0
    assert len([json.loads(line) for line in text.splitlines()]) == 24


def test_config_lists_every_setting() -> None:
    status, text, _ = soma("config", "list", "--json")
    assert status == 0
    assert "fusion" in json.loads(text)["integrator"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cpu", "fusion", "magic"), "can't be 'magic'"),
        (("cpu", "colour", "red"), "no setting 'colour'; there are"),
        (("a b", "fusion", "hedge"), "can't be a tenant"),
        (("", "fusion", "hedge"), "can't be a tenant"),
        (("cpu", "fusion", "hedge", "--processor", "chef"), "no processor 'chef'"),
        (("cpu", "alpha", "1.5"), "integrator, predictors have a setting 'alpha': say which by"),
        (("cpu", "cpd", "off", "--processor", "integrator"), "(but segmentation has)"),
        (("cpu", "alpha@state", "1"), "alpha is the tenant's: it can't be set for a domain"),
        (("cpu", "cpd@a b", "off"), "'a b' can't be a domain"),
        (("cpu", "cpd@", "off"), "'' can't be a domain"),
        (("cpu", "leader@state"), "can't be set for a domain"),
    ],
)
def test_config_refuses_what_the_law_would(words: tuple[str, ...], said: str) -> None:
    status, _, text = soma("config", "set", *words)
    assert status == 1
    assert said in text
