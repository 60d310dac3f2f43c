"""The code blocks of README.md and docs/, and the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w.]+)`:\n\n$")  # the line above a block that shows a file
_PROGRAMS = ("distill", "make", "python", "pip", "git")
_SHELL = ("", "bash", "console", "sh")  # languages of blocks that may hold commands


class Block(NamedTuple):
    """A fenced block: "README.md:30", its language, its text, and the name of the file that it shows, if any."""

    place: str
    language: str
    text: str
    file: str


class Command(NamedTuple):
    """One command of a block: where it stands, and its words without the comment."""

    place: str
    words: tuple[str, ...]


def blocks() -> list[Block]:
    """All fenced blocks, in the order of the pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            file = _FILE.search(text[: match.start()])
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", match[1], match[2], file[1] if file else ""))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a block; one that a backslash continues is joined."""
    if block.language not in _SHELL:
        return []
    page, first = block.place.rsplit(":", 1)
    found: list[Command] = []
    parts: list[str] = []
    for number, line in enumerate(block.text.splitlines(), start=int(first)):
        parts.append(line.removesuffix("\\"))
        if line.endswith("\\"):
            continue
        joined, parts = " ".join(parts).strip().removeprefix("$ "), []
        if joined.split(" ")[0] in _PROGRAMS:
            found.append(Command(f"{page}:{number}", tuple(shlex.split(joined, comments=True))))
    return found
