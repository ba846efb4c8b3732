"""Settings read from the environment and from files: all errors at once, and where each value
comes from.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as SourceError

from agents.kit.setting import COGNITION, OFF_ON, Setting
from agents.settings.errors import SettingsError
from agents.settings.fields import values_of
from agents.settings.tree import COMMON, PREFIX, ProcessorGroup, Settings
from topics.plugins import left_out, plugins, refuse

SECRETS_DIR = "SOMA_SECRETS_DIR"
FOR_TESTS = "SOMA_TEST_"  # which run workers too
IN_WORDS = (  # errors that our words for the field tell better than pydantic's
    "int_", "float_", "bool_", "finite_", "greater_", "less_", "literal_", "string_pattern",
)  # fmt: skip
AGENTS = Path(__file__).resolve().parents[1]


def declared(mentioned: str | None = None) -> dict[str, Mapping[str, Setting]]:
    """The settings of each processor, by its name.

    Where its folder has them in settings.py that alone is loaded. Where they stand in agent.py, the
    processor itself, which takes a second: only if one of them is mentioned (None: in any case).
    """
    found: dict[str, Mapping[str, Setting]] = {}
    for folder in sorted(path.parent for path in AGENTS.glob("*/agent.py")):
        name = folder.name
        if (folder / "settings.py").exists():
            found[name] = import_module(f"agents.{name}.settings").SETTINGS
        elif mentioned is None or f"{PREFIX}{name.upper()}__" in mentioned:
            found[name] = _settings_of(name, f"agents.{name}.agent")
    for plugin in plugins():
        for name, module in plugin.processors.items():
            if mentioned is None or f"{PREFIX}{name.upper()}__" in mentioned:
                try:
                    found[name] = _settings_of(name, module)
                except SettingsError as error:
                    refuse(plugin.package, str(error))
    return found


def _settings_of(name: str, module: str) -> Mapping[str, Setting]:
    """What a processor declares. SettingsError names one that can't be had."""
    from agents.engine.registry import loaded  # the engine, for these alone

    try:
        return loaded(name, module).settings
    except ValueError as error:
        raise SettingsError(str(error)) from error


def group_of(processor: str, settings: Mapping[str, Setting]) -> type[ProcessorGroup]:
    """A processor's settings as fields, which take what its control records take."""
    fields: dict[str, Any] = {
        name: (Annotated[type(one.default), BeforeValidator(_reader(one))], Field(one.default))
        for name, one in settings.items()
    }
    return create_model(processor, __base__=ProcessorGroup, **fields)


def _reader(setting: Setting) -> Any:
    return lambda value: setting.parse(value) if isinstance(value, str) else setting.check(value)


def tree_of(processors: Mapping[str, Mapping[str, Setting]]) -> type[Settings]:
    """The settings with a group for each of these processors. SettingsError for a name that is
    taken.
    """
    if taken := sorted(processors.keys() & Settings.model_fields.keys()):
        raise SettingsError(
            f"no processor can be named {', '.join(taken)}: a setting has that name"
        )
    groups: dict[str, Any] = {}
    for name, settings in processors.items():
        group = group_of(name, settings)
        groups[name] = (group, group())
    return create_model("Settings", __base__=Settings, **groups)


@cache
def _tree(mentioned: str | None) -> type[Settings]:
    return tree_of(declared(mentioned))


def load(*, whole: bool = False) -> Settings:
    """Read the settings from the environment; `SettingsError` names everything that is wrong.

    `whole`: with the values of all processors, even of those whose settings need them loaded.
    """
    errors = []
    secrets = os.environ.get(SECRETS_DIR) or None
    if secrets and not Path(secrets).is_dir():
        errors.append(f"{SECRETS_DIR}: {secrets} is no folder")
        secrets = None
    names = sorted(name.upper() for name in {*os.environ, *_files(secrets)} if "__" in name)
    tree = _tree(None if whole else " ".join(name for name in names if name.startswith(PREFIX)))
    errors += [_no_such(name, tree) for name in _unknown(os.environ, tree)]
    settings = None
    try:
        settings = tree(_secrets_dir=secrets)
    except ValidationError as error:
        errors.extend(_described(one, tree) for one in error.errors())
    except SourceError as error:
        name = str(error).partition('"')[2].partition('"')[0]  # … for field "api" from source …
        errors.append(f"{PREFIX}{name.upper()}: give a JSON object ({error.__cause__})")
    if errors or settings is None:
        between = " " if len(errors) == 1 else "\n"
        raise SettingsError(between.join(["The settings can't be used:", *errors]))
    return settings


def fields(tree: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by the variable that sets it, those of groups after the others."""
    groups = {}
    for name, field in tree.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            groups[name] = field.annotation
        else:
            yield f"{PREFIX}{name.upper()}", field
    for name, group in groups.items():
        for one, field in group.model_fields.items():
            yield f"{PREFIX}{name.upper()}__{one.upper()}", field


def origin(settings: Settings, variable: str) -> str:
    """Where the value of a variable comes from: default, environment, file, local stack, or the
    variable that counts for all processors.
    """
    place, _, inner = variable.removeprefix(PREFIX).lower().partition("__")
    if place in settings.filled:
        return "local stack"
    holder, name = (getattr(settings, place), inner) if inner else (settings, place)
    if name not in holder.model_fields_set:
        common = COMMON.get(inner, "")
        if common in settings.filled:
            return "local stack"
        return f"{PREFIX}{common.upper()}" if common in settings.model_fields_set else "default"
    named = {one.upper() for one, text in os.environ.items() if text}
    return "environment" if {variable, f"{PREFIX}{place.upper()}"} & named else "file"


def without_cognition(settings: Settings) -> list[str]:
    """The processors that steer others and, by these settings, don't act."""
    return [
        name for name, own in declared().items()
        if COGNITION in own
        and (settings.common() | settings.given(name))[COGNITION] == OFF_ON[0]
    ]  # fmt: skip


def cognition_off(names: Sequence[str]) -> str:
    """What processors do whose cognition is off, in words."""
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    counts, does = ("count", "do") if len(names) > 1 else ("counts", "does")
    return f"{listed} {counts} what comes as disabled, and {does} nothing"


def _files(folder: str | None) -> list[str]:
    return [path.name for path in Path(folder).iterdir()] if folder else []


def _unknown(env: Mapping[str, str], tree: type[Settings]) -> Iterator[str]:
    """Variables with our prefix that set nothing: mistyped more often than not."""
    known = {name for name, _ in fields(tree)} | {SECRETS_DIR}
    groups = {name.partition("__")[0] for name in known if "__" in name}
    for variable in sorted(env):
        name = variable.upper()
        if not name.startswith(PREFIX) or name.startswith(FOR_TESTS):
            continue
        # Pydantic itself names a wrong field of a group.
        group, nested, _ = name.partition("__")
        # Whoever goes on without a package has its settings all the same.
        if name not in known | groups and not (nested and (group in groups or left_out())):
            yield variable


def _no_such(variable: str, tree: type[Settings]) -> str:
    near = get_close_matches(variable.upper(), [name for name, _ in fields(tree)], 1, 0.85)
    return f"{variable}: there is no such setting" + (f"; {near[0]}?" if near else "")


def _described(error: ErrorDetails, tree: type[Settings]) -> str:
    """One line: the variable, and what is wrong with its value, which isn't shown."""
    said, known = error["msg"].removeprefix("Value error, "), dict(fields(tree))
    if not error["loc"]:
        return said
    path = [PREFIX + str(error["loc"][0]), *map(str, error["loc"][1:])]
    if len(path) > 1 and path[0].upper() not in known:  # of a group, not of a mapping
        path = ["__".join(path[:2]), *path[2:]]
    variable = path[0].upper()
    if error["type"] == "extra_forbidden":
        return _no_such(variable, tree)
    if variable in known and error["type"].startswith(IN_WORDS):
        said = f"give {values_of(known[variable])}"
    return ": ".join([variable, *path[1:], said])
