"""Every message that docs/troubleshooting.md quotes is one that the sources still give."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [match[2].strip() for match in re.finditer(r"^### (`+)(.*)\1$", PAGE, re.MULTILINE)]
PACKAGES = ("distill", "students", "teachers", "heads")


def texts() -> Iterator[str]:
    """Every text in the sources, with "…" for what is filled in."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    yield "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


ALL_TEXTS = "\n".join(texts())


def test_there_are_many() -> None:
    assert len(QUOTED) >= 30
    assert len(QUOTED) == len(set(QUOTED))


@pytest.mark.parametrize("message", QUOTED)
def test_the_message_is_in_the_sources(message: str) -> None:
    assert message in ALL_TEXTS, f"docs/troubleshooting.md quotes {message!r}, which no text in the sources holds"
