"""What verification found, as data and as text.

Sizes are COCO's: small below 32 squared pixels of area, large from 96 squared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Level = Literal["error", "warning", "note"]
_STYLES: dict[Level, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
_SHOWN = 3
SIZES = ("small", "medium", "large")


def counted(number: int, thing: str) -> str:
    """ "1 pair", "2 pairs"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know, and what to do about it.

    Args:
        level: "error": training or scoring fails or is wrong; "warning": it may be; "note": good to know.
        part: Where, or "" for the whole data set.
        check: Which check found it.
        message: What is the case.
        advice: What to do.
        cases: Every case, one line each.
    """

    level: Level
    part: str
    check: str
    message: str
    advice: str
    cases: Sequence[str] = ()


@dataclass
class PartSummary:
    """What a part holds.

    Args:
        name: Name of the part.
        images: Number of image records.
        empty: How many of them have no object.
        objects: Number of usable objects.
        classes: By class name, the number of objects and of images that show one.
        sizes: Number of small, medium and large objects.
        most: The most objects in one image.
    """

    name: str
    images: int = 0
    empty: int = 0
    objects: int = 0
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIZES, 0))
    most: int = 0


@dataclass(frozen=True)
class Lookalike:
    """Images of two parts, or twice of one, that show the same."""

    parts: tuple[str, str]
    files: tuple[str, str]
    objects: tuple[int, int]
    how: str


@dataclass
class Report:
    """Everything that was found out about a data set."""

    root: str
    parts: list[PartSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lookalikes: list[Lookalike] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return asdict(self)

    def print(self, console: Console) -> None:
        """The report for people."""
        console.print(Group(*self._lines()), soft_wrap=True)

    def _lines(self) -> list[RenderableType]:
        lines: list[RenderableType] = [Text(self.root, style="bold"), self._overview(), Text(), self._class_table()]
        if self.lookalikes:
            lines += [Text(), self._lookalike_table()]
        lines.append(Text())
        for level in ("error", "warning", "note"):
            for finding in (finding for finding in self.findings if finding.level == level):
                where = f"{finding.part}: " if finding.part else ""
                lines.append(Text.assemble((level, _STYLES[level]), f"  {where}{finding.message}. {finding.advice}"))
                lines += [Text(f"         {case}", style="dim") for case in finding.cases[:_SHOWN]]
                if len(finding.cases) > _SHOWN:
                    lines.append(
                        Text(f"         ... and {len(finding.cases) - _SHOWN} more (--json has all)", style="dim")
                    )
        counts = {level: sum(finding.level == level for finding in self.findings) for level in _STYLES}
        lines.append(Text(", ".join(counted(count, level) for level, count in counts.items()), style="bold"))
        return lines

    def _overview(self) -> Table:
        table = Table("part", box=None, pad_edge=False)
        for column in ("images", "without object", "objects", *SIZES, "most in one image"):
            table.add_column(column, justify="right")
        for part in self.parts:
            numbers = (part.images, part.empty, part.objects, *part.sizes.values(), part.most)
            table.add_row(escape(part.name), *(f"{number:,}" for number in numbers))
        return table

    def _class_table(self) -> Table:
        table = Table("class", box=None, pad_edge=False)
        for part in self.parts:
            table.add_column(f"{escape(part.name)}: objects (images)", justify="right")
        for name in dict.fromkeys(name for part in self.parts for name in part.classes):
            cells = (part.classes.get(name, (0, 0)) for part in self.parts)
            table.add_row(escape(name), *(f"{objects:,} ({images:,})" for objects, images in cells))
        return table

    def _lookalike_table(self) -> Table:
        table = Table("showing the same (objects)", "", "how alike", box=None, pad_edge=False)
        for pair in self.lookalikes:
            images = zip(pair.parts, pair.files, pair.objects, strict=True)
            cells = (escape(f"{part}: {file} ({objects})") for part, file, objects in images)
            table.add_row(*cells, pair.how)
        return table
