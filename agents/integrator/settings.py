"""The settings of the integrator, and their columns in the rows of numbers that kernels read."""

from agents.kit.setting import OFF_ON, YEAR_MS, Setting

HEDGE, FIXED_SHARE, SOFTMAX = range(3)

SETTINGS = {
    "fusion": Setting(
        "fixed_share", "how weights follow losses", choices=("hedge", "fixed_share", "softmax")
    ),
    "alpha": Setting(2.0, "loss = 1 - exp(-alpha * error)", 0, 1e6),
    "share": Setting(0.001, "part of the weight that fixed_share spreads evenly a round", 0, 1),
    "temperature": Setting(1.0, "weights are published raised to 1/temperature", 1e-6, 1e6),
    "entropy_cap": Setting(1.0, "most entropy of the weights, as a part of ln N", 0, 1),
    "margin": Setting(0.05, "a challenger needs this much more weight than the leader", 0, 1),
    "min_dwell_ms": Setting(50.0, "event time that a leader leads at least", 0, YEAR_MS),
    "stale_after_ms": Setting(
        10_000.0, "event time without a record until a domain takes no part", 0, YEAR_MS, above=True
    ),
    "forget_after_s": Setting(
        2_592_000.0,
        "silence (tenants: log time, domains: event time) until forgotten",
        0,
        1e10,
        above=True,
    ),
    "veto_retry_ms": Setting(
        1000.0, "event time until the policy is asked again about a leader it denied", 0, YEAR_MS
    ),
    "drift": Setting("on", "whether entropy and regret are watched", choices=OFF_ON),
    "drift_entropy": Setting(0.8, "mean entropy above which a tenant may drift", 0, 1),
    "drift_regret": Setting(0.1, "mean regret a round above which a tenant may drift", 0, 1),
    "drift_cooldown_s": Setting(60.0, "event time between two drift events", 0, 1e10),
    "auto_rollback": Setting(
        "off", "whether a drift takes the tenant's own settings back", choices=OFF_ON
    ),
    "learned_temperature": Setting(
        1.0, "part of the temperature that is left; the processor learner sets it", 1e-6, 1
    ),
    "prior": Setting(
        1.0,
        "what a domain's weight is published by, of its own; the processor learner sets it",
        0.001,
        1,
        scope="domain",
    ),
}
(
    FUSION, ALPHA, SHARE, TEMPERATURE, CAP, MARGIN, DWELL, STALE, FORGET,
    RETRY, DRIFT, DRIFT_ENTROPY, DRIFT_REGRET, COOLDOWN, ROLLBACK, LEARNED, PRIOR,
) = range(len(SETTINGS))  # fmt: skip
SHAPING = FORGET  # settings before this one shape the fusion: those a rollback takes back
LEARNT = ("learned_temperature", "prior")  # by rewards, all the time: no drift starts anew by them
