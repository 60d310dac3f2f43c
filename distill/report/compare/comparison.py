"""Runs compared, and the files that show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from distill.files import write_json, write_text
from distill.report.compare import tables
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.costs import SharedCosts
from distill.report.compare.measured import Measured
from distill.report.compare.sections import comparable
from distill.report.compare.teachers import teacher_folders
from distill.report.run_record import RunRecord
from distill.report.same_paths import with_same_paths

FORMAT = 1
FILES = ("compare.html", "compare.json", "compare.csv", "compare.md")


@dataclass(frozen=True)
class Comparison:
    """Runs compared: a section for each task and set of images, a row for each student, its seeds folded.

    Attributes:
        content: What compare.json holds; all other forms are made of it.
    """

    content: dict[str, Any]

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The sections of compare.json."""
        return list(self.content["sections"])

    def as_json(self) -> dict[str, Any]:
        """The content of compare.json. Numbers are fractions and counts, with six significant digits."""
        return self.content

    def markdown(self) -> str:
        """The tables as Markdown."""
        return tables.markdown(self.content)

    def csv(self) -> str:
        """One line for each row, numbers as in compare.json."""
        return tables.csv_text(self.content)

    def tables(self) -> list[Table]:
        """The tables of all sections for a terminal, of quality and of costs."""
        return [table for section in self.sections for table in tables.rich_tables(section)]

    def write(self, folder: Path) -> None:
        """Writes compare.html, compare.json, compare.csv and compare.md, each in one step.

        Args:
            folder: Where to; it is made if need be.

        Raises:
            UserError: The folder cannot be written; files of earlier comparisons are kept.
        """
        from distill.report.compare.page.build import page

        html, as_json, csv, markdown = (folder / name for name in FILES)
        texts = {html: page(self.content), csv: self.csv(), markdown: self.markdown()}
        for path, text in texts.items():
            write_text(path, text)
        write_json(as_json, self.content)


def compare_records(
    records: Sequence[RunRecord],
    command: str = "",
    passed_over: Sequence[str | Path] = (),
    measured: Measured | None = None,
    stage: str | None = None,
) -> Comparison:
    """Compares runs.

    Args:
        records: The runs, one at least.
        command: What the user typed.
        passed_over: Paths that are no run folders.
        measured: Costs that were taken for this comparison; without, those that the runs stored.
        stage: "test" or "validate"; None for what each task is scored by.
    """
    records = with_same_paths(records)
    runs = [ComparedRun.of(record, stage) for record in records]
    return Comparison(
        {
            "format": FORMAT,
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "version": _version(),
            "command": command,
            "measured": None if measured is None else {**measured.machine, "rounds": measured.rounds},
            "passed_over": [str(path) for path in passed_over],
            "sections": comparable(runs, teacher_folders(records), SharedCosts(runs, measured)),
        }
    )


def _version() -> str:
    try:
        return version("distill-rs")
    except PackageNotFoundError:
        return "not installed"
