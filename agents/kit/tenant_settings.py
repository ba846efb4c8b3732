"""Who set what: settings as rows of numbers, one column a setting, for columnar processors."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.kit.asleep import KEPT_AS, checked, traffic_wakes
from agents.kit.setting import AT, EVERYONE, SHOWN, Setting, find, parse

AWAKE = 0.0
ROW_0 = (EVERYONE, "")  # of whoever has no values of its own, nor a domain that has


def row_of(settings: Mapping[str, Setting], given: Mapping[str, str]) -> NDArray[np.float64]:
    """A row of numbers: the given values, as text, and the defaults of the others.

    Raises ValueError for a bad one.
    """
    values = {name: setting.default for name, setting in settings.items()}
    for name, text in given.items():
        if find(settings, name)[2]:
            raise ValueError(f"{name[:SHOWN]!r}: only a tenant's setting can be for a domain")
        values[name] = parse(settings, name, text)
    return np.array([settings[name].number(value) for name, value in values.items()])


def number_of(settings: Mapping[str, Setting], name: str, text: str) -> float:
    """What stands for a text of NAME or NAME@DOMAIN; NaN for an empty one, which takes the value
    back. Raises ValueError for a bad one.
    """
    setting, _, _ = find(settings, name)
    return setting.number(parse(settings, name, text)) if text else math.nan


class TenantSettings:
    """Own values by tenant, and `table`: a row for everybody, and for whoever has others. The last
    number of a row is no setting's: it says how the tenant sleeps (`asleep.number`, 0: not).

    A row is for a tenant and a domain, '*' and '' standing for any. Own values count before those
    of '*', these before the deployment's; in each, the domain's before the tenant's.
    """

    def __init__(self, settings: Mapping[str, Setting], defaults: Mapping[str, str]) -> None:
        """`defaults`: the deployment's values. Raises ValueError for a bad one."""
        self._settings = settings
        self._base = np.append(row_of(settings, defaults), AWAKE)
        self._asleep: dict[str, float] = {}  # tenant -> how: `asleep.number`
        self._by_traffic: set[str] = set()  # those of them whom an observation wakes
        self._own: dict[str, dict[str, float]] = {}
        self._domains: dict[str, set[str]] = {}  # tenant -> domains that it has values for
        self._rows: dict[tuple[str, str], int] = {ROW_0: 0}
        self._with: dict[str, set[str]] = {EVERYONE: {""}}  # tenant -> domains of its rows
        self._free: list[int] = []
        self.table = self._base[None, :].copy()
        self.version = 1  # goes up with every change
        self.special = False  # whether anybody ever had values for a domain

    @property
    def anybody_sleeps(self) -> bool:
        """Whether some tenant isn't active."""
        return bool(self._asleep)

    @property
    def anybody_wakes(self) -> bool:
        """Whether some tenant sleeps whom an observation wakes."""
        return bool(self._by_traffic)

    def sleep_of(self, tenant: str) -> float:
        """How a tenant sleeps (`asleep.number`); 0: not."""
        return self._asleep.get(tenant, AWAKE)

    def let_sleep(self, tenant: str, how: float) -> None:
        """Let a tenant sleep so, or (0) be awake."""
        self._asleep.pop(tenant, None)
        self._by_traffic.discard(tenant)
        if how != AWAKE:
            self._asleep[tenant] = how
        if traffic_wakes(how):
            self._by_traffic.add(tenant)
        self._replace(tenant, self._own.get(tenant, {}))

    def kept(self, tenant: str) -> dict[str, float]:
        """All that a state row keeps of a tenant here: its own values, and its sleep."""
        sleep = self.sleep_of(tenant)
        return self.own(tenant) | ({KEPT_AS: sleep} if sleep != AWAKE else {})

    def take(self, tenant: str, kept: Mapping[str, float]) -> None:
        """Take what `kept` gave, instead of all there was. ValueError for what can't be."""
        own = self.checked({name: one for name, one in kept.items() if name != KEPT_AS})
        sleep = checked(kept[KEPT_AS]) if KEPT_AS in kept else AWAKE
        self._replace(tenant, own)
        if sleep != self.sleep_of(tenant):
            self.let_sleep(tenant, sleep)

    def own(self, tenant: str) -> dict[str, float]:
        """What the tenant set itself, by name."""
        return dict(sorted(self._own.get(tenant, {}).items()))

    def tenants(self) -> list[str]:
        """Those that set something themselves."""
        return list(self._own)

    def change(self, tenant: str, name: str, text: str) -> None:
        """Set one value, or (an empty text) take it back. Raises ValueError for a bad one."""
        number = number_of(self._settings, name, text)
        mine = {one: value for one, value in self._own.get(tenant, {}).items() if one != name}
        self._replace(tenant, mine if math.isnan(number) else mine | {name: number})

    def replace(self, tenant: str, values: Mapping[str, float]) -> None:
        """Make these the tenant's values instead of all it had. Raises ValueError for a bad one."""
        self._replace(tenant, self.checked(values))

    def checked(self, values: Mapping[str, float]) -> dict[str, float]:
        """These values, which a tenant may have. Raises ValueError for a bad one."""
        for name, value in values.items():
            find(self._settings, name)[0].of_number(value)
        return dict(values)

    def _replace(self, tenant: str, mine: dict[str, float]) -> None:
        self.version += 1
        self._own.pop(tenant, None)
        self._domains.pop(tenant, None)
        if mine:
            self._own[tenant] = mine
            self._domains[tenant] = {find(self._settings, name)[2] for name in mine} - {""}
            self.special |= bool(self._domains[tenant])
        rows = [(tenant, domain) for domain in self._with.get(tenant, ())]
        for key in list(self._rows) if tenant == EVERYONE else rows:
            if key == self._key(*key):
                self.table[self._rows[key]] = self._values(*key)
            else:
                self._free.append(self._rows.pop(key))
                self._with[key[0]].discard(key[1])
        if not self._with.get(tenant, True):
            del self._with[tenant]

    def row(self, tenant: str, domain: str = "") -> int:
        """The row of the table that holds for a domain of a tenant ('': for the tenant itself).

        It stays so until that tenant, or '*' in a domain, changes something.
        """
        key = self._key(tenant, domain)
        if key not in self._rows:
            self._rows[key] = row = self._take()  # which may make the table anew
            self._with.setdefault(key[0], set()).add(key[1])
            self.table[row] = self._values(*key)
        return self._rows[key]

    def _key(self, tenant: str, domain: str) -> tuple[str, str]:
        """Whose row it is that counts for a domain of a tenant."""
        special = any(domain in self._domains.get(one, ()) for one in (tenant, EVERYONE))
        alone = tenant in self._own or tenant in self._asleep
        return tenant if alone else EVERYONE, domain if special else ""

    def _take(self) -> int:
        if not self._free:
            size = self.table.shape[0]
            self.table = np.concatenate((self.table, self.table))
            self._free = list(range(2 * size - 1, size - 1, -1))
        return self._free.pop()

    def values(self, tenant: str, domain: str = "") -> NDArray[np.float64]:
        """What holds for a domain of a tenant, without a row of the table for it."""
        return self._values(*self._key(tenant, domain))

    def _values(self, tenant: str, domain: str) -> NDArray[np.float64]:
        """Everybody's values, then those for the domain, then the tenant's, then of both."""
        row = self._base.copy()
        for owner in dict.fromkeys((EVERYONE, tenant)):
            own = self._own.get(owner, {})
            for k, setting in enumerate(self._settings):
                for name in (setting, f"{setting}{AT}{domain}"):
                    row[k] = own.get(name, row[k])
        row[-1] = self.sleep_of(tenant)
        return row
