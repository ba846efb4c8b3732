import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agents.tools.screen import ROWS_MAX, Moment, bar, screen
from agents.tools.show import hints

FRAME = {
    "leader": "state",
    "weights": {"state": 0.5, "agent": 0.3, "action": 0.2},
    "confidence": 0.5,
    "entropy": 0.9,
    "dwell_ms": 1_500,
}


def drawn(moment: Moment, width: int = 140, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(screen(moment, width, height))
    return capture.get()


weights = st.dictionaries(
    st.sampled_from(["state", "agent", "action", "other", "x"]),
    st.floats(1e-9, 1.0),
    min_size=1,
)


@given(weights, st.integers(1, 60))
def test_a_bar_is_as_wide_as_asked(given_: dict[str, float], width: int) -> None:
    assert bar(given_, width).plain == "█" * width


def test_a_bar_of_nothing_is_empty() -> None:
    assert bar({}).plain == ""
    assert bar({"state": 0.0}).plain == ""


def test_before_the_first_frame() -> None:
    assert "waiting for the first frame" in drawn(Moment(0.0, {}))


def test_a_moment_with_everything() -> None:
    text = drawn(
        Moment(
            seconds=75,
            frames={"recorded.cpu": FRAME, "cpu": FRAME | {"leader": "", "weights": {}}},
            past={"cpu": ["state", "agent"]},
            tenant_rates={"cpu": 12.0},
            observation_rate=1234.0,
            frame_rate=1233.0,
            delays_ms=(12.0, 40.0),
            lags={"predictors": 3, "integrator": 0},
            trouble="the worker ended",
            hints=[("every frame", "soma watch [topic]")],
        )
    )
    for words in (
        "1:15",
        "1,234 observations/s",
        "1,233 frames/s",
        "12 ms (median), 40 ms (p99)",
        "integrator 0, predictors 3",
        "the worker ended",
        "soma watch [topic]",
        "1.5 s",
    ):
        assert words in text
    assert text.index("cpu ") < text.index("recorded.cpu"), "this machine stands first"


def test_many_tenants_are_cut_short() -> None:
    text = drawn(Moment(1.0, {f"t{k:03}": FRAME for k in range(ROWS_MAX + 7)}), height=60)
    assert "and 7 more tenants" in text


def boundary(tenant: str, at_s: int, evidence: str = "cpd") -> dict[str, object]:
    return {
        "tenant": tenant,
        "domain": "state",
        "boundary_ts": at_s * 1_000_000,
        "detected_ts": at_s * 1_000_000 + 500_000,
        "dwell_ms": 90_000,
        "evidence": evidence,
        "score": 12.345,
    }


def test_the_latest_boundaries_this_machines_first() -> None:
    assert "none yet" in drawn(Moment(1.0, {}))
    shown = [boundary("recorded.cpu", 9), boundary("cpu", 3), boundary("cpu", 5, "hmm")]
    lines = drawn(Moment(1.0, {}, boundaries=shown, boundary_count=1_234)).splitlines()
    at = next(k for k, line in enumerate(lines) if "1,234 boundaries" in line)
    assert "00:00:05.0  cpu / state  hmm 12.3, seen 500 ms after, ends 1.5 min" in lines[at + 1]
    assert "00:00:03.0  cpu / state  cpd" in lines[at + 2]
    assert "00:00:09.0  recorded.cpu / state" in lines[at + 3]


def test_it_fits_an_old_terminal() -> None:
    tenants = ["cpu", "recorded.network", *(f"t{k}" for k in range(40))]
    lines = drawn(
        Moment(
            1.0,
            dict.fromkeys(tenants, FRAME),
            delays_ms=(1.0, 2.0),
            lags={"predictors": 3, "integrator": 0, "segmentation": 7},
            boundaries=[boundary("recorded.network", k, "leader_change") for k in range(9)],
            hints=hints("soma"),
        ),
        80,
        24,
    ).splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 and "…" not in line for line in lines)
    shown = [line.split()[0] for line in lines if "state" in line]
    assert shown[1:4] == ["cpu", "recorded.network", "t0"], "the demo's own stand first"
