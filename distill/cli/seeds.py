"""`distill seeds RUN RUN ...`: mean and spread of every score over runs that differ in their seed."""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.errors import UserError
from distill.evaluation.units import bare, shown
from distill.phases import line_console
from distill.report.class_tables import class_table

# What runs over seeds differ in by design; anything else is named, for example the checkpoint of a student per seed.
_FREE = ("run", "seed_everything", "data.init_args.seed")


def run(words: list[str]) -> None:
    """Runs `distill seeds RUN RUN ... [--stage validate] [--json]`.

    Raises:
        UserError: Fewer than two runs, an unscored one, or two of the same seed.
    """
    parser = argparse.ArgumentParser("distill seeds", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="scored run folders, or one of a recipe with run.seeds")
    parser.add_argument("--stage", choices=("test", "validate"), default="test", help="which scores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(words[1:])
    folders: list[Path] = []
    for folder in arguments.runs:
        seeds = _read_recipe(folder).get("run", {}).get("seeds")
        folders += seed_folders(folder, seeds) if seeds else [folder]
    report(folders, arguments.stage, arguments.json)


def seed_folders(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """Where the runs of a recipe with `run.seeds` lie."""
    return [folder / f"seed{seed}" for seed in seeds]


def report(folders: Sequence[Path], stage: str, as_json: bool = False) -> dict[str, dict[str, float | int]]:
    """Prints mean and spread over runs of different seeds, and returns them by metric.

    Raises:
        UserError: Fewer than two runs, an unscored one, or two of the same seed.
    """
    recipes = {folder: _read_recipe(folder) for folder in folders}
    if len(recipes) < 2:
        raise UserError("a spread needs two runs or more; give the run folders of all seeds")
    seeds: dict[int, Path] = {}
    for folder, recipe in recipes.items():
        other = seeds.setdefault(recipe["seed_everything"], folder)
        if other != folder:
            raise UserError(
                f"{other} and {folder} have the same seed, {recipe['seed_everything']}, so they say nothing about the "
                "spread; fit one again with --seed_everything"
            )
    _require_same_scoring(list(recipes), stage)
    rows = spread([_read_scores(folder, stage) for folder in recipes])
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


def spread(scores: list[dict[str, float | None]]) -> dict[str, dict[str, float | int]]:
    """`mean`, sample standard deviation `std` and number of `runs` of every score that all runs have."""
    common = [key for key in scores[0] if all(row.get(key) is not None for row in scores)]
    values = {key: [float(row[key] or 0.0) for row in scores] for key in common}
    return {k: {"mean": statistics.mean(v), "std": statistics.stdev(v), "runs": len(v)} for k, v in values.items()}


def differing(recipes: list[dict[str, Any]]) -> list[str]:
    """Dotted keys whose values differ between recipes, the seed and the run's own settings left out."""
    flat = [dict(_flatten(recipe)) for recipe in recipes]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    free = tuple(f"{key}." for key in _FREE)
    return [
        key
        for key in keys
        if not f"{key}.".startswith(free) and any(recipe.get(key) != flat[0].get(key) for recipe in flat)
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no recipe.yaml; give folders that `distill fit` wrote")
    recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return recipe


def _require_same_scoring(folders: Sequence[Path], stage: str) -> None:
    """Refuses to average scores of which some were taken in another way."""
    paths = {folder: folder / f"{stage}_facts.json" for folder in folders}
    facts = {folder: json.loads(path.read_text(encoding="utf-8")) for folder, path in paths.items() if path.is_file()}
    for folder, own in facts.items():
        first, others = next(iter(facts.items()))
        for key in sorted(own.keys() | others.keys()):
            if key != "step" and own.get(key) != others.get(key):
                raise UserError(
                    f"{first} and {folder} were not scored in the same way, {key} is {others.get(key)} and "
                    f"{own.get(key)}; run `distill {stage}` on both with the same settings"
                )


def _read_scores(folder: Path, stage: str) -> dict[str, float | None]:
    path = folder / f"{stage}.json"
    if not path.is_file():
        raise UserError(f"{folder} has no {path.name}; run `distill {stage} {folder}` first")
    scores: dict[str, float | None] = json.loads(path.read_text(encoding="utf-8"))
    return scores
