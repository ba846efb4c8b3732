"""The reference has all that there is, and links of pages lead on in the site."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import agents.kit
from agents.cli import main
from ops.site import pages, reference
from topics.catalogue import CATALOGUE
from topics.schemas import schemas


def test_all_topics_schemas_commands_and_names_of_the_kit_are_there() -> None:
    made = reference.pages()
    assert all(f"`{name}`" in made["reference/topics.md"] for name in CATALOGUE)
    assert all(f"\n## {name}\n" in made["reference/schemas.md"] for name in schemas().names())
    assert all(f"\n## soma {name}\n" in made["reference/commands.md"] for name in main.commands)
    assert all(f"\n## {name}\n" in made["reference/kit.md"] for name in agents.kit.__all__)


class Known:
    """Files of a site that has these pages."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def get_file_from_path(self, name: str) -> object:
        return name if name in self.names else None


@pytest.mark.parametrize(
    ("page", "text", "made"),
    [
        ("docs/past.md", "[one](explain.md#x)", "[one](explain.md#x)"),
        ("docs/past.md", "[all](../ops/SETTINGS.md)", "[all](ops/SETTINGS.md)"),
        ("README.md", "[demo](docs/demo.md)", "[demo](demo.md)"),
        ("ops/RESTORE.md", "[first](../README.md)", "[first](../index.md)"),
        ("docs/past.md", "[the code](../agents/cli.py)", "the code (`agents/cli.py`)"),
        ("docs/past.md", "[nowhere](gone.md)", "[nowhere](gone.md)"),
        ("docs/past.md", "[away](https://example.org/a.md)", "[away](https://example.org/a.md)"),
    ],
)
def test_links_lead_to_where_pages_are(page: str, text: str, made: str) -> None:
    known = Known("explain.md", "ops/SETTINGS.md", "demo.md", "index.md")
    file = SimpleNamespace(abs_src_path=str(Path(pages.ROOT) / page), src_uri=pages.page_of(page))
    found = pages.on_page_markdown(text, page=SimpleNamespace(file=file), config=None, files=known)  # type: ignore[arg-type]
    assert found == made
