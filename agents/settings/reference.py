"""All settings as a page: what each can be, whose it is, and what it does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from agents.kit.setting import Scope, Setting, unit_of
from agents.settings.fields import values_of
from agents.settings.reading import declared, fields
from agents.settings.tree import PREFIX, Settings

HEAD = """# Settings

`soma settings reference > ops/SETTINGS.md` writes this page; a test compares it with the
declarations.

A setting of the **deployment** is an environment variable, or a file of that name in the folder
`SOMA_SECRETS_DIR`; the variable wins, and an empty one counts as not set. All are checked at the
start, and all errors told at once. `soma settings print` shows the values in force and where each
comes from, secrets hidden.

A setting of a **tenant**, or of a tenant and one of its **domains**, has the variable for all who
set nothing themselves, and takes the same values in the stream: `soma config set TENANT NAME
VALUE`, for a domain `NAME@DOMAIN`. NAME is what follows `__`, in small letters.
"""
SCOPES: dict[Scope, str] = {
    "deployment": "deployment", "tenant": "tenant", "domain": "tenant and domain",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A setting, in words."""

    variable: str
    default: str
    values: str
    scope: str
    help: str


def rows() -> Iterator[tuple[str, list[Row]]]:
    """Each section's title, and its settings."""
    sections: dict[str, list[Row]] = {"": []}
    for variable, field in fields(Settings):
        group, nested, _ = variable.removeprefix(PREFIX).lower().partition("__")
        sections.setdefault(group if nested else "", []).append(_of_field(variable, field))
    yield "The deployment", sections.pop("")
    for group, found in sections.items():
        model: Any = Settings.model_fields[group].annotation
        yield f"{group}: {model.__doc__}", found
    for processor, settings in declared().items():
        start = f"{PREFIX}{processor}__".upper()
        yield (
            f"{processor}, a processor",
            [_of_setting(f"{start}{name.upper()}", one) for name, one in settings.items()],
        )


def page() -> str:
    """The whole page, as Markdown."""
    lines = [HEAD]
    for title, found in rows():
        lines += [f"## {title}", "| Variable | Default | Values | Whose | What it is |"]
        lines.append("| --- | --- | --- | --- | --- |")
        for one in found:
            default = f"`{one.default}`" if one.default else ""
            cells = (f"`{one.variable}`", default, one.values, one.scope, one.help)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def as_json() -> dict[str, list[dict[str, str]]]:
    """The same as data, by section."""
    return {title: [asdict(one) for one in found] for title, found in rows()}


def _of_setting(variable: str, one: Setting) -> Row:
    values = one.values + unit_of(variable, one.unit)
    return Row(variable, str(one.default), values, SCOPES[one.scope], one.help)


def _of_field(variable: str, field: FieldInfo) -> Row:
    values = values_of(field) + unit_of(variable)
    return Row(variable, _default(field), values, SCOPES["deployment"], field.description or "")


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return str(field.default) if isinstance(field.default, str | int | float | Path) else ""
