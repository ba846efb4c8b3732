"""A state row as people look at it: its key taken apart, the kit's own fields beside the law's."""

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agents.engine.processor import SEP, Processor
from agents.history.rows import Rows, record
from agents.kit.asleep import KEPT_AS, said
from agents.kit.schema import SETTINGS, TOUCHED
from agents.kit.setting import find


class View(NamedTuple):
    """A row of a tenant, or of one of its domains or entities."""

    tenant: str
    entity: str  # or domain; "" for the tenant's own
    fields: Mapping[str, Any]
    touched: str | None  # log time of its last record, ISO 8601; None: a row of settings alone
    settings: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        own = {"entity": self.entity} if self.entity else {}
        return {
            "tenant": self.tenant, **own, "fields": dict(self.fields), "touched": self.touched,
            "settings": dict(self.settings),
        }  # fmt: skip


def views(processor: Processor, rows: Rows) -> list[View]:
    """The rows, in the order of their keys."""
    return [_view(processor, key, value) for key, value in sorted(rows.items())]


def _view(processor: Processor, key: bytes, value: bytes) -> View:
    tenant, _, entity = key.decode(errors="replace").partition(SEP)
    fields = record(value)
    touched, own = fields.pop(TOUCHED, 0), fields.pop(SETTINGS, {})
    at = datetime.fromtimestamp(touched / 1000, UTC).isoformat() if touched else None
    return View(tenant, entity, fields, at, {k: _setting(processor, k, v) for k, v in own.items()})


def _setting(processor: Processor, name: str, kept: Any) -> Any:
    """A setting's value: columnar processors keep words by their numbers."""
    if name == KEPT_AS and name not in processor.settings:
        return said(float(kept))
    with contextlib.suppress(ValueError):  # of a later version's: as it is
        setting, _, _ = find(processor.settings, name)
        return setting.parse(kept) if isinstance(kept, str) else setting.of_number(kept)
    return kept
