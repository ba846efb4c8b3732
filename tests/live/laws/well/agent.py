"""A second processor of the same source, with the same law."""

from dataclasses import replace
from importlib import import_module

sick = import_module("agents.sick.agent")
PROCESSOR = replace(sick.PROCESSOR, name="well", make=lambda context: sick.Sick(context, "well"))
