"""The pages for users: short where one begins, and no link leads nowhere."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.kit import Driver
from ops.examples.install import install
from tests.unit.ops.examples.counting.samples import records

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(ROOT.glob("*.md")) + [
    page
    for folder in ("docs", "migrations", "ops")
    for page in sorted((ROOT / folder).rglob("*.md"))
]
WORDS_MAX = 900
LINES_MAX = 15  # of the first processor
# [text](target) and ![text](target), of another page or file.
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(text: str) -> set[str]:
    """What headings are called in links, as MkDocs (and most hosts) name them."""
    heads = re.findall(r"(?m)^#+ (.*)$", text)
    words = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads)
    return {re.sub(r"[-\s]+", "-", one) for one in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there.read_text()), f"{target}#{anchor}"


def test_the_first_page_is_short_and_leads_to_all_others() -> None:
    text = README.read_text()
    assert len(text.split()) <= WORDS_MAX
    linked = {(ROOT / target).resolve() for target, _ in LINK.findall(text) if target}
    assert not set((ROOT / "docs").glob("*.md")) - linked


def test_the_first_page_s_processor_works() -> None:
    install()
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= LINES_MAX
    shown: dict[str, Any] = {"__name__": __name__}
    exec(code, shown)
    driver = Driver(shown["PROCESSOR"])
    driver.send_all(records(np.random.default_rng(1), 1) * 200, tenant="acme")
    assert [one.record["total"] for one in driver.outputs if one.record] == [100, 200]
