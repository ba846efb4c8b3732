"""Processors are found by their folders, and loaded only when chosen."""

import subprocess
import sys

import pytest
from pydantic import SecretStr

from agents.engine.registry import processor_names, processors, service_names, services
from agents.settings import Settings, SettingsError


def test_the_processors_there_are() -> None:
    assert {"integrator", "predictors"} <= set(processor_names())
    assert not {"engine", "commands", "projections"} & set(processor_names())
    assert sorted(processors()) == processor_names()


def test_only_the_chosen_are_given() -> None:
    assert list(processors(["predictors"])) == ["predictors"]
    assert list(processors(["predictors", "integrator"])) == ["integrator", "predictors"]
    assert list(processors(["predictors", "projections", "predictors"])) == ["predictors"]
    assert processors(["projections"]) == {}


def test_only_the_chosen_are_loaded() -> None:
    code = (
        "import sys; from agents.engine.registry import processors; processors(['predictors']);"
        "print('agents.predictors.agent' in sys.modules, 'agents.integrator.fold' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_every_unknown_name_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no such processor: kitchen, loft; there are") as error:
        processors(["loft", "integrator", "kitchen"])
    assert all(name in str(error.value) for name in [*processor_names(), *service_names()])


def test_services_are_found_and_chosen_as_processors_are() -> None:
    assert service_names() == ["gateway", "outbox", "projections"]
    stores = {"redis_url": SecretStr("redis://127.0.0.1:1/0"), "memory_http_endpoint": "http://m"}
    both = Settings(agents=("gateway", "projections", "predictors"), **stores)
    found = services(both)
    assert [one.name for one in found] == ["gateway", "frames"]
    assert services(Settings(agents=("predictors",), **stores)) == []
    for one in found:
        one.stop()


def test_a_service_that_is_asked_for_and_has_nothing_to_do_is_an_error() -> None:
    with pytest.raises(SettingsError, match="SOMA_MEMORY_HTTP_ENDPOINT"):
        services(Settings(agents=("gateway",)))
