"""The settings of memory, of each tenant."""

from agents.kit.setting import Setting

DAY_S = 86_400
LINKS_MOST = 1000

HORIZON, LINKS, GUARD = "horizon_s", "links_max", "guard_percent"
SETTINGS = {
    HORIZON: Setting(
        30 * DAY_S, "how long dedupe keys, tombstones and orders to prune are known", 60,
        3650 * DAY_S,
    ),
    LINKS: Setting(256, "links of one memory", 0, LINKS_MOST),
    GUARD: Setting(
        10.0, "part of a tenant's memories above which an order to prune wants to be confirmed",
        0, 100, unit="%",
    ),
}  # fmt: skip
