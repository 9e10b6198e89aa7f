"""The pages of the documentation as a test sees them: blocks of code, code in the text, links, tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("yaml", "yaml mistakes", "sh", "python", "toml", "text")


@dataclass(frozen=True)
class Block:
    page: str  # path from the root
    line: int  # of its first line of code
    language: str  # empty for one without a fence
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks(language: str | None = None) -> list[Block]:
    """Every block of code, or those of one language."""
    found = [
        Block(path.relative_to(ROOT).as_posix(), (token.map or [0])[0] + 2, token.info.strip(), token.content)
        for path in PAGES
        for token in tokens(path)
        if token.type in ("fence", "code_block")
    ]
    return [block for block in found if language is None or block.language == language]


def inline(path: Path, kind: str) -> Iterator[Token]:
    """Tokens of one kind within the text of a page."""
    for token in tokens(path):
        yield from (child for child in token.children or [] if child.type == kind)


def spans() -> list[tuple[str, str]]:
    """(page, text) of every piece of code within the text."""
    return [(path.relative_to(ROOT).as_posix(), " ".join(token.content.split())) for path in PAGES for token in inline(path, "code_inline")]


def links() -> list[tuple[str, str]]:
    """(page, target) of every link and image."""
    found = []
    for path in PAGES:
        for kind, attribute in (("link_open", "href"), ("image", "src")):
            found += [(path.relative_to(ROOT).as_posix(), str(token.attrs[attribute])) for token in inline(path, kind)]
    return found


def headings(path: Path) -> list[str]:
    """The anchors that GitHub gives to a page's headings."""
    found = []
    for before, token in zip(tokens(path), tokens(path)[1:], strict=False):
        if before.type == "heading_open":
            kept = "".join(c for c in token.content.lower() if c.isalnum() or c in " -_")
            found.append(kept.replace(" ", "-"))
    return found
