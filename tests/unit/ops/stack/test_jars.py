"""Kafka's jars: which version, and what is said of a Java that doesn't do."""

from importlib.resources import files
from pathlib import Path

import pytest

from ops.stack.jars import java, kafka_version
from ops.stack.processes import StackError


def test_the_pom_names_a_kafka_4() -> None:
    assert kafka_version(files("ops.kafka").joinpath("pom.xml").read_text()).startswith("4.")
    with pytest.raises(StackError, match=r"kafka\.version"):
        kafka_version("<project/>")


@pytest.mark.parametrize(
    ("told", "fine"), [('openjdk version "21.0.2"', True), ('java version "1.8.0_202"', False)]
)
def test_an_old_java_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, fine: bool
) -> None:
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if fine:
        assert java() == str(program)
        return
    with pytest.raises(StackError, match="17 or newer") as caught:
        java()
    assert "SOMA_KAFKA_BOOTSTRAP" in str(caught.value)
