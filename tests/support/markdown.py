"""Markdown pages as tests read them: sections, tables, links and fenced blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page that it begins at."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page of README.md or docs/."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        return cls(path, path.read_text())

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return FENCE.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        return [
            Block(match[2], match[3], self.text.count("\n", 0, match.start()) + 1)
            for match in FENCE.finditer(self.text)
        ]

    @property
    def headings(self) -> list[str]:
        return [match[2] for match in HEADING.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after #, made of the headings as GitHub makes it."""
        slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in self.headings]
        return {f"{slug}-{n}" if n else slug for i, slug in enumerate(slugs)
                for n in [slugs[:i].count(slug)]}  # fmt: skip

    @property
    def links(self) -> list[str]:
        return LINK.findall(self.prose)

    @property
    def code(self) -> list[str]:
        """What stands between backticks, or in fenced blocks, line by line."""
        lines = [line for block in self.blocks for line in block.text.splitlines()]
        return CODE.findall(self.prose) + lines

    def section(self, heading: str) -> str:
        """The text under a heading, up to the next one of its level or above."""
        found = re.search(rf"^(#+) {re.escape(heading)}$", self.text, re.MULTILINE)
        assert found, f"{self.path.name} has no section {heading!r}"
        rest = self.text[found.end() :]
        end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of a text, row by row, without the heads."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line for i, line in enumerate(lines) if line.startswith("|")
             and not re.match(r"\|[\s:|-]+\|$", line)
             and not (i + 1 < len(lines) and re.match(r"\|[\s:|-]+\|$", lines[i + 1]))]  # fmt: skip
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found]


def table(text: str) -> dict[str, list[str]]:
    """The rows of a text's tables, by each name in backticks that stands in the first cell."""
    result = {}
    for first, *others in rows(text):
        for name in CODE.findall(first) or [first]:
            result[name] = others
    return result
