"""The report of a verification, as data and as text.

Sizes are COCO's: small below 32 squared pixels of area, large from 96 squared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from distill.curate.verify.findings import Finding, Level, Lookalikes, counted

_STYLES: dict[Level, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
_SHOWN = 3
_CASES = 2  # named of each kind of finding
_MOST_ROWS = 5  # of images that show the same
SIZES = ("small", "medium", "large")


@dataclass
class PartSummary:
    """Counts of a part.

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


@dataclass
class Report:
    """All findings about a data set."""

    root: str
    parts: list[PartSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lookalikes: list[Lookalikes] = field(default_factory=list)
    shown: ClassVar[str] = "objects"  # what is counted of an image

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return asdict(self)

    def print(self, console: Console, everything: bool = False) -> None:
        """The report for people: the worst first, one line for each kind of finding.

        Args:
            console: Where to.
            everything: Whether to list every finding with every case.
        """
        console.print(Group(*self._lines(everything)), soft_wrap=True)

    def _lines(self, everything: bool) -> list[RenderableType]:
        lines: list[RenderableType] = [Text(self.root, style="bold"), *self.overview(), Text()]
        groups = self.grouped()
        for group in groups:
            for finding in group if everything else ():
                lines.append(_headline(finding.level, f"{_where(finding)}{finding.message}. {finding.advice}"))
                lines += [_detail(case) for case in finding.cases]
            if not everything:
                lines += _in_short(group)
        if self.lookalikes:
            lines += [self._lookalike_table(len(self.lookalikes) if everything else _MOST_ROWS), Text()]
        counts = {level: sum(group[0].level == level for group in groups) for level in _STYLES}
        total = ", ".join(counted(count, level) for level, count in counts.items())
        hidden = not everything and any(finding.cases for finding in self.findings)
        lines.append(Text(f"{total}{'; --all lists every case' if hidden else ''}", style="bold"))
        return lines

    def grouped(self) -> list[list[Finding]]:
        """Findings of one level and check together: errors first, and of a level those with most cases."""
        groups: dict[tuple[Level, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.level, finding.check), []).append(finding)
        levels = list(_STYLES)
        return sorted(
            groups.values(),
            key=lambda group: (levels.index(group[0].level), -sum(len(finding.cases) for finding in group)),
        )

    def overview(self) -> list[RenderableType]:
        """Counts of the parts."""
        return [self._overview(), Text(), self._class_table()]

    def _overview(self) -> Table:
        table = Table("part", box=None, pad_edge=False)
        for column in ("images", "without object", "objects", *SIZES, "most in one image"):
            table.add_column(column, justify="right")
        for part in self.parts:
            numbers = (part.images, part.empty, part.objects, *part.sizes.values(), part.most)
            table.add_row(Text(part.name), *(f"{number:,}" for number in numbers))
        return table

    def _class_table(self) -> Table:
        table = Table("class", box=None, pad_edge=False)
        for part in self.parts:
            table.add_column(Text(f"{part.name}: objects (images)"), justify="right")
        for name in dict.fromkeys(name for part in self.parts for name in part.classes):
            cells = (part.classes.get(name, (0, 0)) for part in self.parts)
            table.add_row(Text(name), *(f"{objects:,} ({images:,})" for objects, images in cells))
        return table

    def _lookalike_table(self, rows: int) -> Table:
        table = Table(f"showing the same ({self.shown})", "", "how alike", box=None, pad_edge=False)
        for one in self.lookalikes[:rows]:
            names = [f"{one.parts[i]}: {one.files[i]} ({one.objects[i]})" for i in one.examples]
            cells = names if len(one.files) == 2 else [one.tally, f"e.g. {', '.join(names)}"]
            table.add_row(*map(Text, cells), one.how)
        if len(self.lookalikes) > rows:
            table.add_row(f"... and {len(self.lookalikes) - rows} more (--all)", "", "")
        return table


def _in_short(group: Sequence[Finding]) -> list[RenderableType]:
    """One line for findings of a kind, and one with some of their cases."""
    first = group[0]
    if len(group) == 1:
        text = f"{_where(first)}{first.message}"
    else:
        text = f"{first.check}: " + "; ".join(f"{_where(finding)}{finding.message}" for finding in group[:_SHOWN])
        text += f"; and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
    lines: list[RenderableType] = [_headline(first.level, f"{text}. {first.advice}")]
    cases = [case for finding in group for case in finding.cases]
    if cases and first.level != "note":
        more = f"; and {len(cases) - _CASES:,} more" if len(cases) > _CASES else ""
        lines.append(_detail(f"e.g. {'; '.join(cases[:_CASES])}{more}"))
    return lines


def _headline(level: Level, text: str) -> Text:
    return Text.assemble((level, _STYLES[level]), f"  {text}")


def _detail(text: str) -> Text:
    return Text(f"         {text}", style="dim")


def _where(finding: Finding) -> str:
    return f"{finding.part}: " if finding.part else ""
