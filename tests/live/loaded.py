"""What a worker imports, for `tests.live.forking`."""

import importlib

from faust.cli import faust as faust_cli

from agents.commands import worker
from agents.engine import bare, compiling, dealing, ending, engine, pages, transport, warm
from agents.engine.registry import modules, service_names
from agents.history import live

__all__ = ["bare", "compiling", "dealing", "ending", "engine", "faust_cli", "live", "pages"]
__all__ += ["transport", "warm", "worker"]

for _name in modules().values():
    importlib.import_module(_name)
for _name in service_names():
    importlib.import_module(f"agents.{_name}.service")
