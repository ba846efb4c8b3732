"""The law of canaries, written again for the verifier: what is put on, and when it is taken back.

E is the Bayes factor of Lindon, Ham, Tingley and Bojinov (2022) for one coefficient. The sums are
of whole lists here, which are kept.
"""

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from ops.prove.law import RefusedError, Row
from ops.prove.overrides import EVERYBODY
from ops.prove.rowlaw import HERE, SEPARATOR, At, Out, RowLaw

COMMANDS, UPDATES, AUDIT = "soma.admin.canary", "cog.config.updates", "soma.audit"
COMMAND, BLOCK = "canary_command", "canary_block"
METRICS = ("error", "regret", "leader_changes", "boundaries")
COUNTED = METRICS[2:]
BEFORE, SETTLED, LEAST = 60, 1, 5
PHI, EVENTS, RHO_MAX, BAR = 0.1, 8.0, 0.95, math.log(4 / 0.05)
ACTIVE = ("measuring", "running", "better")
FOR_S = (60, 86_400)
GROUP_MAX = 500


@dataclass
class Canary:
    """The one that runs on a setting, or ran last."""

    id: str = ""
    state: str = ""
    setting: str = ""
    value: str = ""
    tenants: list[str] = field(default_factory=list)
    control: list[str] = field(default_factory=list)
    actor: str = ""
    asked: int = 0
    put_on: int = 0
    ended: int = 0
    first: int = 0
    block: int = 0
    last_before: int = 0
    before: list[float] = field(default_factory=list)  # differences, one list of all metrics
    after: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    canary: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    why: str = ""
    due: int | None = None

    def series(self, which: list[float], k: int) -> list[float]:
        """The differences of one metric."""
        return which[k :: len(METRICS)]

    def evidence(self, k: int, spread: float, freedom: int) -> tuple[float, bool]:
        """log E of a metric, and whether it is worse than it was; `spread`: of tenants apart."""
        a, b = self.series(self.before, k), self.series(self.after, k)
        quantum = 1.0 / min(len(self.tenants), len(self.control))
        floor = EVENTS * quantum**2 if METRICS[k] in COUNTED else 0.0
        within = _squares(a) + _squares(b) + floor
        apart = _mean(b) - _mean(a)
        if len(a) < 2 or not b or within <= 0.0:
            return 0.0, apart > 0.0
        rho = min(RHO_MAX, max(0.0, (_neighbours(a) + _neighbours(b)) / within))
        keep = (1.0 - rho) / (1.0 + rho)
        n = keep * len(a) * len(b) / (len(a) + len(b))
        nu = max(1.0, keep * (len(a) + len(b)) - 2)
        variance = within / (len(a) + len(b) - 2) / n
        if freedom:
            nu = min(nu, freedom)
            n, variance = n * variance / max(variance, spread), max(variance, spread)
        t2, shrunk = apart**2 / variance, PHI / (PHI + n)
        ratio = math.log1p(t2 / nu) - math.log1p(shrunk * t2 / nu)
        return 0.5 * math.log(shrunk) + 0.5 * (nu + 1.0) * ratio, apart > 0.0


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _squares(numbers: list[float]) -> float:
    middle = _mean(numbers)
    return sum((one - middle) ** 2 for one in numbers)


def _neighbours(numbers: list[float]) -> float:
    middle = _mean(numbers)
    return sum((a - middle) * (b - middle) for a, b in pairwise(numbers))


class Canaries(RowLaw):
    """Folds canary_commands and canary_blocks; see rowlaw.RowLaw."""

    processor, topic, source = "canary", COMMANDS, COMMAND
    schemas = (COMMAND, BLOCK)
    sinks = (UPDATES, AUDIT)
    state = "canary_state"
    tenant = "name"
    timed = False
    tolerance: ClassVar[dict[str, float]] = {"": 1e-6}

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        row = self.table.setdefault(record["name"], Canary())
        if name == BLOCK:
            return self._block(row, record, at)
        found = self._command(row, record, at)
        if not self.table[record["name"]].id:
            del self.table[record["name"]]
        return found

    def _command(self, row: Canary, record: Row, at: At) -> list[Out]:
        name, kind, actor = record["name"], record["type"], record["actor"]
        if kind == "start":
            if row.state in ACTIVE or not _fit(record):
                return [_told(name, record["id"], actor, "refused", at.log_ms)]
            zeros = [0.0] * len(METRICS)
            self.table[name] = Canary(
                record["id"], "measuring", name.partition(".")[2], record["value"],
                record["tenants"], record["control"], actor, at.log_ms * 1000,
                most=list(zeros), canary=list(zeros), others=list(zeros),
                due=(at.log_ms + record["for_s"] * 1000) * 1000,
            )  # fmt: skip
            more = {"tenants": len(record["tenants"]), "control": len(record["control"])}
            return [_told(name, record["id"], actor, "measuring", at.log_ms, more)]
        unknown = kind not in ("stop", "promote") or row.state not in ACTIVE
        if unknown or record["id"] != row.id or (kind == "promote" and not row.put_on):
            return [_told(name, record["id"], actor, "refused", at.log_ms)]
        found = []
        if kind == "promote":
            found.append(self._change(row, name, EVERYBODY, row.value, None, at.log_ms))
        found += self._end(row, name, "promoted" if kind == "promote" else "stopped", at.log_ms)
        return [*found, _told(name, row.id, actor, row.state, at.log_ms)]

    def _block(self, row: Canary, record: Row, at: At) -> list[Out]:
        name = record["name"]
        lists = [record[which] for which in ("differences", "canary", "control", "spread")]
        whole = all(len(one) == len(METRICS) for one in lists[1:])
        if not whole or not all(math.isfinite(x) for one in lists for x in one):
            raise RefusedError("not whole")
        fresh = record["id"] == row.id and record["first"] > row.block and row.state in ACTIVE
        if not fresh or record["before"] != (row.state == "measuring"):
            return []
        row.block = record["last"]
        if record["before"]:
            row.before += record["differences"]
            row.first, row.last_before = record["first"], record["last"]
            return self._put_on(row, name, at) if len(row.before) >= BEFORE * len(METRICS) else []
        row.after += record["differences"]
        count = len(record["differences"]) // len(METRICS)
        row.canary = [a + b * count for a, b in zip(row.canary, record["canary"], strict=True)]
        row.others = [a + b * count for a, b in zip(row.others, record["control"], strict=True)]
        return self._decide(row, name, record, at)

    def _put_on(self, row: Canary, name: str, at: At) -> list[Out]:
        changes = [self._change(row, name, one, row.value, "", at.log_ms) for one in row.tenants]
        row.state, row.put_on = "running", at.log_ms * 1000
        return [*changes, _told(name, row.id, row.actor, "put_on", at.log_ms)]

    def _decide(self, row: Canary, name: str, record: Row, at: At) -> list[Out]:
        better = ""
        for k, metric in enumerate(METRICS):
            found, worse = row.evidence(k, record["spread"][k], record["freedom"])
            row.most[k] = max(row.most[k], found)
            if found < BAR or len(row.after) < LEAST * len(METRICS):
                continue
            if worse:
                row.why = metric
                ended = self._end(row, name, "worse", at.log_ms)
                return [*ended, _told(name, row.id, "canary", "worse", at.log_ms)]
            better = metric
        if better and row.state == "running":
            row.state, row.why = "better", better
            return [_told(name, row.id, "canary", "better", at.log_ms)]
        return []

    def _end(self, row: Canary, name: str, state: str, log_ms: int) -> list[Out]:
        back = [
            self._change(row, name, one, "", row.value, log_ms)
            for one in (row.tenants if row.put_on else ())
        ]
        row.state, row.ended, row.due = state, log_ms * 1000, None
        return back

    def _change(
        self, row: Canary, name: str, tenant: str, value: str, expected: str | None, log_ms: int
    ) -> Out:
        said = {
            "tenant": tenant, "setting": row.setting, "value": value, "author": f"canary:{row.id}",
            "ts": log_ms * 1000, "processor": name.partition(".")[0], "expected_version": None,
            "expected_value": expected,
        }  # fmt: skip
        return Out(UPDATES, f"{tenant}{SEPARATOR}{name}", said, tenant)

    def over(self, tenant: str, now: int) -> list[Out]:
        """See rowlaw.RowLaw."""
        row: Canary = self.table[tenant]
        row.why = row.why or "no"
        ended = self._end(row, tenant, "expired", now // 1000)
        return [*ended, _told(tenant, row.id, "canary", "expired", now // 1000)]

    def unread(self, record: Row | None, key: str, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        said = {"action": "canary.refused", "id": "", "ts": at.log_ms * 1000}
        return [Out(AUDIT, at.origin, said, HERE)]

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        if topic == UPDATES:
            return row if str(row.get("author", "")).startswith("canary:") else None
        if not row["action"].startswith("canary."):
            return None
        detail = json.loads(row["detail"])
        said = {"action": row["action"], "id": detail["id"], "ts": row["ts"]}
        if row["subject"] == COMMANDS:
            return said
        counts = {k: detail[k] for k in ("tenants", "control") if isinstance(detail.get(k), int)}
        return said | {"actor": row["actor"]} | counts

    def rows(self) -> dict[bytes, Row]:
        """See rowlaw.RowLaw. Of the sums, how many and what."""
        found = super().rows()
        for row in found.values():
            for which in ("before", "after"):
                lists = [row[which][k :: len(METRICS)] for k in range(len(METRICS))]
                row[which] = [[len(one), sum(one)] for one in lists]
            row["why"] = bool(row["why"])
        return found

    def row(self, row: Row) -> Row:
        """See rowlaw.RowLaw."""
        width = len(row["most"])
        found: dict[str, Any] = dict(row)
        for which in ("before", "after"):
            size = len(row[which]) // width if width else 0
            each = [row[which][k * size : k * size + 2] for k in range(width)] if size else []
            found[which] = [[int(one[0]), one[1]] for one in each] or [[0, 0]] * len(METRICS)
        found["why"] = bool(row["why"])
        return found


def _fit(record: Row) -> bool:
    """Whether a canary can begin."""
    groups = record["tenants"], record["control"]
    named = [*groups[0], *groups[1]]
    sound = all(0 < len(one) <= GROUP_MAX for one in groups) and len({*named}) == len(named)
    lasts = FOR_S[0] <= record["for_s"] <= FOR_S[1]
    return sound and lasts and _can_be(record["name"], record["value"])


def _can_be(name: str, value: str) -> bool:
    """Whether a setting can have a value; none is nothing to try."""
    from ops.prove.steering.control import KINDS, may_be

    owner, _, setting = name.partition(".")
    kinds = KINDS.get(owner, {})
    return bool(value) and setting in kinds and may_be(kinds[setting], setting, value)


def _told(name: str, id_: str, actor: str, state: str, log_ms: int, more: Row | None = None) -> Out:
    said = {"action": f"canary.{state}", "id": id_, "ts": log_ms * 1000, "actor": actor}
    return Out(AUDIT, name, said | (more or {}), name)
