"""The settings of the learner, beside those of every row processor."""

from agents.kit.setting import YEAR_MS, Setting
from agents.learner.law import ANNEALS, EXPONENTIAL

SETTINGS = {
    "loss_alpha": Setting(2.0, "loss = 1 - exp(-loss_alpha * error), as integrator.alpha", 0, 1e6),
    "window_s": Setting(
        600.0, "event time in which a frame can be rewarded", 0, YEAR_MS / 1000, above=True
    ),
    "wait_s": Setting(
        60, "a reward waits so long for its frame, and is a dead letter then", 1, 86_400
    ),
    "every_s": Setting(5.0, "log time between two changes of what was learned", 0, 86_400),
    "tau_min": Setting(0.1, "least learned temperature that annealing leads to", 1e-3, 1),
    "anneal": Setting(
        EXPONENTIAL, "how rewards let the temperature fall to tau_min", choices=ANNEALS
    ),
    "anneal_rate": Setting(0.01, "part of annealing that a reward is", 0, 1),
}
