"""A pytest plugin for packages that bring processors (`-p agents.contract.plugin`).

Before a test is collected it brings the packages that the ini option `soma_plugins` names, as
SOMA_PLUGINS does, so that a package needn't be installed to be tried; and asserts of the contract
suite say what they compared.

    [tool.pytest.ini_options]
    addopts = "-p agents.contract.plugin"
    pythonpath = ["."]
    soma_plugins = ["counting"]
"""

import os

import pytest

from topics.plugins import VARIABLE, plugins

INI = "soma_plugins"

pytest.register_assert_rewrite("agents.contract.suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addini(INI, "packages whose processors, topics and schemas tests see", "linelist", [])


def pytest_configure(config: pytest.Config) -> None:
    """Name the packages where ours are looked for. UsageError says which can't be had."""
    named = [name for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    named += [name for name in config.getini(INI) if name not in named]
    os.environ[VARIABLE] = ",".join(named)
    try:
        plugins()
    except SystemExit as error:
        raise pytest.UsageError(str(error)) from error
