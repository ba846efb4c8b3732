"""A hook of MkDocs: brings pages from beside docs/, makes the reference, and follows links.

Pages link to each other as files of the checkout do, so that they can be read there, too. In the
site README.md is the first page, docs/ has no folder, and other pages keep their path; a link to a
file that is no page becomes its path.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ops.site import reference

ROOT = Path(__file__).parents[2]
FIRST, INDEX = "README.md", "index"
BESIDE = (FIRST, "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FOLDERS = ("migrations", "ops")
PICTURES = ("ops/pictures", "ops/bench")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def page_of(path: str) -> str:
    """Where a page of the checkout is in the site."""
    return f"{INDEX}.md" if path == FIRST else path.removeprefix("docs/")


def brought() -> dict[str, Path]:
    """Pages and pictures from beside docs/, by their path in the checkout."""
    found = [ROOT / name for name in BESIDE]
    found += [page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md"))]
    found += [one for folder in PICTURES for one in sorted((ROOT / folder).glob("*.svg"))]
    return {str(path.relative_to(ROOT)): path for path in found if path.is_file()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what isn't in docs/."""
    for path, where in brought().items():
        files.append(File.generated(config, page_of(path), abs_src_path=str(where)))
    for name, text in reference.pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, /, *, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where pages are in the site."""
    source = Path(page.file.abs_src_path) if page.file.abs_src_path else None
    if source is None:
        return markdown
    place = source.parent.relative_to(ROOT).as_posix()
    start = posixpath.dirname(page.file.src_uri) or "."

    def led(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(place, target))
        if files.get_file_from_path(page_of(path)) is not None:
            there = posixpath.relpath(page_of(path), start)
            return f"{mark}[{text}]({there}{anchor or ''})"
        if not (ROOT / path).exists():
            return match[0]  # which the strict build tells
        return f"`{path}`" if text in path else f"{text} (`{path}`)"

    return LINK.sub(led, markdown)
