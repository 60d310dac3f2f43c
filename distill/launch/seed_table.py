"""Mean and standard deviation of every score over runs that differ in their seed."""

import json
import statistics
from collections.abc import Sequence

from distill.errors import UserError
from distill.evaluation.metrics import bare
from distill.evaluation.units import shown
from distill.phases import line_console
from distill.report.class_tables import class_table
from distill.runs.differences import differing
from distill.runs.folder import RunFolder

Row = dict[str, float | int]


def report(runs: Sequence[RunFolder], stage: str, as_json: bool = False) -> dict[str, Row]:
    """Prints mean and standard deviation over scored runs of different seeds.

    Args:
        runs: Their folders.
        stage: "test" or "validate".
        as_json: Whether JSON is printed instead of a table.

    Returns:
        `mean`, sample standard deviation `std` and number of `runs` by metric.

    Raises:
        UserError: Fewer than two runs, an unscored one, or two of the same seed.
    """
    recipes = {run: run.read_recipe() for run in runs}
    if len(recipes) < 2:
        raise UserError("a spread needs two runs or more; give the run folders of all seeds")
    seeds: dict[int, RunFolder] = {}
    for run, recipe in recipes.items():
        other = seeds.setdefault(recipe["seed_everything"], run)
        if other != run:
            raise UserError(
                f"{other} and {run} have the same seed, {recipe['seed_everything']}, so they say nothing about the "
                "spread; fit one again with --seed_everything"
            )
    _require_same_scoring(list(recipes), stage)
    rows = mean_and_std([run.read_scores(stage) for run in recipes])
    if as_json:
        print(json.dumps(rows))
        return rows
    table = {bare(key): [shown(key, row["mean"]), f"± {shown(key, row['std'])}"] for key, row in rows.items()}
    console = line_console()
    console.print(f"{len(recipes)} runs, seeds {', '.join(map(str, sorted(seeds)))}\n")
    console.print(class_table(table, ["mean", "std"], heading="metric"))
    console.print("std is the sample standard deviation over the runs (n - 1), not the error of the mean.")
    if keys := differing(list(recipes.values())):
        console.print(f"Beside the seed, the runs differ in {', '.join(keys)}.")
    return rows


def mean_and_std(scores: Sequence[dict[str, float | None]]) -> dict[str, Row]:
    """`mean`, sample standard deviation `std` and number of `runs` of every score that all runs have."""
    common = [key for key in scores[0] if all(row.get(key) is not None for row in scores)]
    values = {key: [float(row[key] or 0.0) for row in scores] for key in common}
    return {k: {"mean": statistics.mean(v), "std": statistics.stdev(v), "runs": len(v)} for k, v in values.items()}


def _require_same_scoring(runs: Sequence[RunFolder], stage: str) -> None:
    """Refuses to average scores of which some were taken in another way."""
    facts = {run: found for run in runs if (found := run.read_facts(stage))}
    for run, own in facts.items():
        first, others = next(iter(facts.items()))
        for key in sorted(own.keys() | others.keys()):
            if key != "step" and own.get(key) != others.get(key):
                raise UserError(
                    f"{first} and {run} were not scored in the same way, {key} is {others.get(key)} and "
                    f"{own.get(key)}; run `distill {stage}` on both with the same settings"
                )
