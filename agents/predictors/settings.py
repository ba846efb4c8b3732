"""The settings of the predictors, and their columns in the rows of numbers that kernels read."""

from agents.kit.setting import OFF_ON, Setting

SETTINGS = {
    "predictor": Setting(
        "heat",
        "what predicts a vector: diffusion over a graph, the last vector, or the running level",
        choices=("heat", "persistence", "mahal"),  # rule.HEAT, PERSISTENCE, MAHAL
    ),
    "alpha": Setting(2.0, "confidence = exp(-alpha * error)", 0, 1000),
    "diffusion_time": Setting(0.5, "how long heat spreads before it is compared", 0, 10),
    "graph": Setting(
        "path",
        "what heat spreads over",
        choices=("none", "path", "ring", "star"),  # diffusion.NONE, PATH, RING, STAR
    ),
    "heat_method": Setting(
        "chebyshev",
        "chebyshev is exact to 1e-10, lanczos faster on large stars",
        choices=("chebyshev", "lanczos"),  # kernels.CHEBYSHEV, LANCZOS
    ),
    "forgetting": Setting(
        0.01, "part that an observation moves level and scale by; 0: ever less", 0, 0.999
    ),
    "forget_after_s": Setting(
        2_592_000.0, "silence after which a domain is forgotten", 1, 315_360_000
    ),
    "calibrate": Setting(
        "on", "whether published confidences are as often right as they say", choices=OFF_ON
    ),
    "calibrate_every": Setting(
        200, "confidences between two records of how true they were", 50, 100_000
    ),
    "next_events": Setting("on", "whether what is expected next is published", choices=OFF_ON),
    "sleep_after_s": Setting(
        0.0,
        "silence after which a tenant sleeps lightly by itself; 0: never",
        0,
        315_360_000,
    ),
}
(
    PREDICTOR, ALPHA, TIME, GRAPH, METHOD, FORGETTING, FORGET_AFTER, CALIBRATE, EVERY, NEXT,
    SLEEP_AFTER,
) = range(len(SETTINGS))  # fmt: skip
