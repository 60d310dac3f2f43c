"""Mean and standard deviation of every score over runs that differ only in their seed."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from distill.errors import UserError
from distill.evaluation.metrics import bare
from distill.evaluation.units import shown
from distill.report.compare.compared_run import ComparedRun
from distill.report.compare.rows import settings_difference
from distill.report.compare.spread import mean_and_sd
from distill.report.run_record import RunRecord
from distill.report.same_paths import with_same_paths
from distill.runs.differences import differing

Row = dict[str, float | int]


@dataclass(frozen=True)
class SeedTable:
    """Scores over seeds.

    Attributes:
        rows: `mean`, sample standard deviation `std` and number of `runs`, by metric with its split.
        seeds: The seeds, in order.
        differences: Keys in which the recipes differ beside the seed.
    """

    rows: dict[str, Row]
    seeds: list[int]
    differences: list[str]

    def shown(self) -> list[str | Table]:
        """The lines and tables for a terminal, from top to bottom."""
        table = Table("metric", "mean", "std", box=None, pad_edge=False, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for key, row in self.rows.items():
            table.add_row(Text(bare(key)), shown(key, row["mean"]), f"± {shown(key, row['std'])}")
        spread = "std is the sample standard deviation over the runs (n - 1), not the error of the mean."
        said: list[str | Table] = [f"{len(self.seeds)} runs, seeds {', '.join(map(str, self.seeds))}\n", table, spread]
        if self.differences:
            said.append(f"Beside the seed, the runs differ in {', '.join(self.differences)}.")
        return said


def seed_table(records: Sequence[RunRecord], stage: str | None = None) -> SeedTable:
    """Folds the scores of runs.

    Args:
        records: The runs.
        stage: "test" or "validate"; None for what their task is scored by.

    Raises:
        UserError: Fewer than two runs, an unscored one, two of the same seed, or runs that were scored differently.
    """
    if len(records) < 2:
        raise UserError("a spread needs two runs or more; give the run folders of all seeds")
    runs = sorted((ComparedRun.of(record, stage) for record in with_same_paths(records)), key=lambda run: run.seed)
    for one, other in itertools.pairwise(runs):
        if one.seed == other.seed:
            raise UserError(
                f"{one.path} and {other.path} have the same seed, {one.seed}, so they say nothing about the spread; "
                "fit one again with --seed_everything"
            )
    for run in runs:
        if not run.scores:
            raise UserError(f"{run.path} has no scores: {run.way_to_scores}")
    for one, other in itertools.combinations(runs, 2):
        _require_same_scoring(one, other)
    found: dict[str, Row] = {}
    for key in runs[0].scores:
        each = [score for run in runs if (score := run.scores.get(key)) is not None]
        if len(each) == len(runs):
            mean, std = mean_and_sd(each)
            split = "val" if runs[0].stage == "validate" else "test"
            found[f"{split}/{key}"] = {"mean": mean, "std": std or 0.0, "runs": len(each)}
    return SeedTable(found, [run.seed for run in runs], differing([run.record.recipe for run in runs]))


def _require_same_scoring(one: ComparedRun, other: ComparedRun) -> None:
    facts = [
        run.settings | {k: run.facts[k] for k in ("image_set", "images") if k in run.facts} for run in (one, other)
    ]
    if one.record.task != other.record.task:
        raise UserError(f"{one.path} and {other.path} are not of one task; give the runs of one recipe")
    if difference := settings_difference(*facts):
        raise UserError(
            f"{one.path} and {other.path} were not scored in the same way, {difference}; run `distill {one.stage}` on "
            "both with the same settings"
        )
