"""What verification found, as data and as text.

Sizes are COCO's: small below 32 squared pixels of area, large from 96 squared.
"""

from collections import Counter
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
_MOST_ROWS = 50  # of images that show the same
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
class Lookalikes:
    """Two images or more that show the same.

    Args:
        parts: The part of each.
        files: The file name of each.
        objects: The number of objects of each.
        how: How that is known.
    """

    parts: tuple[str, ...]
    files: tuple[str, ...]
    objects: tuple[int, ...]
    how: str

    @property
    def across(self) -> bool:
        """Whether they are of two parts or more."""
        return len(set(self.parts)) > 1

    @property
    def within(self) -> bool:
        """Whether two of them or more are of one part."""
        return len(set(self.parts)) < len(self.parts)

    @property
    def examples(self) -> list[int]:
        """Positions of some that stand for all, one of each part first."""
        first = [self.parts.index(part) for part in dict.fromkeys(self.parts)]
        return [*first, *(i for i in range(len(self.parts)) if i not in first)][:_SHOWN]

    def __str__(self) -> str:
        if len(self.files) == 2:
            return f"{', '.join(self.files)}: {self.how}"
        return f"{self.tally} show the same, e.g. {', '.join(self.files[i] for i in self.examples)}: {self.how}"

    @property
    def tally(self) -> str:
        """ "214 images (180 of train, 34 of val)"."""
        counts = ", ".join(f"{count:,} of {part}" for part, count in Counter(self.parts).items())
        return f"{len(self.files):,} images ({counts})"


@dataclass
class Report:
    """Everything that was found out about a data set."""

    root: str
    parts: list[PartSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lookalikes: list[Lookalikes] = field(default_factory=list)

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
        for one in self.lookalikes[:_MOST_ROWS]:
            names = [f"{one.parts[i]}: {one.files[i]} ({one.objects[i]})" for i in one.examples]
            cells = names if len(one.files) == 2 else [one.tally, f"e.g. {', '.join(names)}"]
            table.add_row(*map(escape, cells), one.how)
        if len(self.lookalikes) > _MOST_ROWS:
            table.add_row(f"... and {len(self.lookalikes) - _MOST_ROWS} more (--json has all)", "", "")
        return table
