import json

from click.testing import CliRunner

from agents.commands.schema import schema


def test_check_lists_every_schema() -> None:
    result = CliRunner().invoke(schema, ["check"])
    assert result.exit_code == 0, result.output
    assert "1  observation.v1" in result.output
    assert "all compatible and unchanged" in result.output


def test_check_speaks_json() -> None:
    result = CliRunner().invoke(schema, ["check", "--json"])
    assert json.loads(result.output)["problems"] == []
    assert json.loads(result.output)["schemas"]["901"] == "control_tick.v1"


def test_nothing_is_recorded_twice() -> None:
    result = CliRunner().invoke(schema, ["record"])
    assert (result.exit_code, result.output) == (0, "Nothing new.\n")
