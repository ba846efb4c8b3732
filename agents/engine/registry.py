"""The processors and services there are: found in the folders of agents/ and among plugins, loaded
when chosen.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import agents
from topics.plugins import plugins, refuse

if TYPE_CHECKING:  # who asks for names alone needs none of it
    from agents.engine.processor import Processor
    from agents.kit.explaining import Explain
    from agents.services.base import Service
    from agents.settings import Settings


def processor_names() -> list[str]:
    """Names of all processors: folders of agents/ whose agent.py declares one, and plugins'."""
    return sorted(modules())


def modules() -> dict[str, str]:
    """Which module declares a processor, by its name. Exits if a package's name is taken."""
    ours = {name: f"agents.{name}.agent" for name in packages_with("agent")}
    for plugin in plugins():
        if clash := sorted({*ours, *service_names()} & set(plugin.processors)):
            refuse(plugin.package, f"there is a processor {', '.join(clash)} already")
        else:
            ours |= plugin.processors
    return ours


def service_names() -> list[str]:
    """What runs beside processors: every folder of agents/ whose service.py gives some."""
    return packages_with("service")


def packages_with(module: str) -> list[str]:
    """The folders of agents/ that have a module of this name."""
    found = [entry.name for entry in pkgutil.iter_modules(agents.__path__) if entry.ispkg]
    return sorted(name for name in found if find_spec(f"agents.{name}.{module}") is not None)


def explainer(name: str) -> "Explain | None":
    """What explains a processor's records (agents/kit/explaining.py): `explain`, in the module that
    declares it or, beside an `agent` module, in `explain`; None: it has none.
    """
    module = modules()[name]
    package, _, last = module.rpartition(".")
    for one in (module, f"{package}.explain") if last == "agent" else (module,):
        if find_spec(one) is not None:
            found = getattr(importlib.import_module(one), "explain", None)
            if callable(found):
                return cast("Explain", found)
    return None


def services(settings: "Settings") -> "list[Service]":
    """The services of the chosen packages (default: all), as far as they are set. SettingsError."""
    found: list[Service] = []
    for name in service_names():
        if not settings.agents or name in settings.agents:
            found += importlib.import_module(f"agents.{name}.service").services(settings)
    return found


def processors(chosen: Iterable[str] = (), *, partly: bool = False) -> "dict[str, Processor]":
    """The chosen processors (default: all), by name.

    Raises ValueError, which names the unknown ones, or what can't be had. `partly`: without those
    of packages that can't be had and needn't (`topics.plugins`).
    """
    homes = modules()
    known = sorted(homes)
    beside = [name for name in service_names() if name not in homes]  # one name may be both
    wanted = [name for name in chosen if name not in beside] or ([] if tuple(chosen) else known)
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(
            f"no such processor: {', '.join(unknown)}; there are {', '.join([*known, *beside])}"
        )
    found = {name: _loaded(name, homes[name], partly) for name in sorted(set(wanted))}
    return {name: one for name, one in found.items() if one is not None}


def _loaded(name: str, module: str, partly: bool) -> "Processor | None":
    """`loaded`, with the package in the error; None where it is left out, which `partly` allows."""
    package = next((one.package for one in plugins() if one.processors.get(name) == module), "")
    try:
        return loaded(name, module)
    except ValueError as error:
        if not package:
            raise
        if not partly:
            raise ValueError(f"{package}: {error}") from error
        refuse(package, str(error))
        return None


def loaded(name: str, module: str) -> "Processor":
    """The processor that a module declares. ValueError, which names it, if there is none."""
    from agents.engine.processor import Processor

    try:
        found = getattr(importlib.import_module(module), "PROCESSOR", None)
    except ImportError as error:
        raise ValueError(f"{name}: {module} can't be imported: {error}") from error
    except ValueError:
        raise  # says what is wrong with what it declares
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: {module} can't be imported: {said}") from error
    if not isinstance(found, Processor) or found.name != name:
        raise ValueError(f"{name}: {module} must declare PROCESSOR, a Processor of this name")
    return found
