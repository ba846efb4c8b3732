"""What holds for every test: nothing of the developer's own environment leaks in."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, settings

# Kernels compile in the first example: a time limit for each example says nothing.
settings.register_profile("soma", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("soma")
pytest.register_assert_rewrite("agents.contract.suite")

# Here and not in a fixture: modules may read the environment when they are imported.
# SOMA_TEST_… tell tests where to find what isn't ours: data sets, programs.
_TCPD = os.environ.get("SOMA_TEST_TCPD")
for _name in [name for name in os.environ if name.upper().startswith("SOMA_")]:
    if not _name.startswith("SOMA_TEST_"):
        del os.environ[_name]

# A shell that starts us in the background makes us ignore Ctrl-C, and nohup a closed terminal; so
# would what we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ORDER = ("unit", "contract", "live")
# Seconds that each file took when `SOMA_TEST_LENGTHS=tests/lengths.json` noted them.
LENGTHS = Path(__file__).with_name("lengths.json")
_NOTE = os.environ.get("SOMA_TEST_LENGTHS")
_taken: dict[str, float] = {}


def lengths() -> dict[str, float]:
    """Seconds by live test file, as noted."""
    noted: dict[str, float] = json.loads(LENGTHS.read_text())
    return noted


def length_of(file: str, noted: Mapping[str, float]) -> float:
    """Seconds that a file takes; one that wasn't noted yet is taken for one in the middle."""
    return noted[file] if file in noted else median(noted.values())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bounds-ran",
        action="store_true",
        help="leave out the unit tests that `make test` has run with bounds checks just before",
    )


def ran_with_bounds(item: pytest.Item, tests: Path) -> bool:
    """Whether `make test` has this one in its part with bounds checks: see the Makefile."""
    inside = any(item.path.is_relative_to(tests / "unit" / part) for part in ("topics", "agents"))
    return inside and item.get_closest_marker("plain") is None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is quick comes first, and compiles the kernels that live tests then find compiled.

    Of the live ones the longest files come first, each whole: at the end two processes share many
    short ones, instead of one waiting for the other's last.
    """
    tests = config.rootpath / "tests"
    noted = lengths()
    if config.getoption("--bounds-ran"):
        left_out = [item for item in items if ran_with_bounds(item, tests)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not ran_with_bounds(item, tests)]

    def place(item: pytest.Item) -> tuple[int, float]:
        kind = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        file = item.nodeid.partition("::")[0]
        return ORDER.index(kind) if kind in ORDER else 0, -length_of(file, noted)

    items.sort(key=place)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long each file takes, with its fixtures."""
    file = report.nodeid.partition("::")[0]
    _taken[file] = _taken.get(file, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note the live ones, where asked: with xdist, in the process that hears of all of them."""
    if _NOTE and not hasattr(session.config, "workerinput"):
        live = {name: round(s) for name, s in _taken.items() if "/live/" in name}
        kept = {
            name: s for name, s in lengths().items() if (session.config.rootpath / name).is_file()
        }
        Path(_NOTE).write_text(json.dumps(kept | live, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def tcpd() -> Path:
    """Annotated series of the Turing Change Point Dataset; skips where there are none.

    They lie in SOMA_TEST_TCPD, or in ../shared/data/change_points beside the checkout.
    """
    sibling = Path(__file__).parents[2] / "shared" / "data" / "change_points"
    place = Path(_TCPD) if _TCPD else sibling
    if not (place / "annotations.json").is_file():
        pytest.skip("no Turing Change Point Dataset: set SOMA_TEST_TCPD to its folder")
    return place


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds the developer's stack: SOMA_HOME is an empty folder."""
    monkeypatch.setenv("SOMA_HOME", str(tmp_path_factory.getbasetemp() / "no-stack-here"))
