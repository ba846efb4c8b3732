"""The settings of segmentation, and their columns in the rows of numbers that kernels read.

A value is set for one domain of a tenant (`NAME@DOMAIN`), for a tenant, for one domain of everybody
('*', `NAME@DOMAIN`), for everybody, or for the deployment: the first of these counts.
"""

from functools import partial

from agents.kit.setting import OFF_ON, YEAR_MS, Setting

OFF, GLR, BOCPD = range(3)  # of `cpd`
_own = partial(Setting, scope="domain")

SETTINGS = {
    "leader": Setting(
        "on", "a boundary of the tenant's segment when the leader changes", choices=OFF_ON
    ),
    "threshold": _own(
        "off", "a boundary when a domain's error moves by `gradient` in a frame", choices=OFF_ON
    ),
    "gradient": _own(0.2, "how far an error moves at least for `threshold`", 0, 1e300),
    "cpd": _own(
        "glr",
        "a boundary where a domain's errors change their law",
        choices=("off", "glr", "bocpd"),
    ),
    "hmm": _own("off", "a boundary when a domain turns volatile or stable again", choices=OFF_ON),
    "min_gap_ms": _own(0.0, "event time between boundaries of a segment, at least", 0, YEAR_MS),
    "max_dwell_ms": _own(
        0.0, "event time that a domain's segment lasts at most; 0: any", 0, YEAR_MS
    ),
    "warmup": _own(0, "frames of a domain before its first boundary", 0, 1e9),
    "glr_bar": _own(2.3, "glr: evidence asked for beyond the log of the segment's length", 0, 1e6),
    "glr_floor": _own(1.4, "glr: changes below so many median steps don't count", 1e-6, 1e6),
    "glr_habituation": _own(
        0.2, "glr: part by which each change raises the evidence asked for", 0, 1e6
    ),
    "glr_half_life": _own(1000.0, "glr: frames after which a declared change counts half", 1, 1e12),
    "glr_persistence": _own(4, "glr: frames in a row that must show the evidence", 1, 50),
    "bocpd_hazard": _own(250.0, "bocpd: frames that a segment lasts on average", 2, 1e9),
    "hmm_stay": _own(
        0.99999, "hmm: probability that a state lasts from one frame to the next", 0.5, 0.9999999
    ),
    "hmm_up": _own(0.6, "hmm: probability of VOLATILE above which it is on", 0.5, 1),
    "hmm_down": _own(0.4, "hmm: probability of VOLATILE below which it is off", 0, 0.5),
    "domains_max": Setting(
        256, "domains that a tenant may have at once; frames of others are dead letters", 1, 1e6
    ),
    "forget_after_s": _own(
        2_592_000.0, "silence after which a domain is forgotten", 1, 315_360_000
    ),
}
(
    LEADER, THRESHOLD, GRADIENT, CPD, HMM, MIN_GAP, MAX_DWELL, WARMUP, BAR, FLOOR, HABITUATION,
    HALF_LIFE, PERSISTENCE, HAZARD, STAY, UP, DOWN, DOMAINS_MAX, FORGET_AFTER,
) = range(len(SETTINGS))  # fmt: skip
