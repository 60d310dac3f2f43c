"""`distill seeds RUN RUN ...`: mean and spread of every score over runs that differ in their seed."""

import argparse
from pathlib import Path

from distill.launch.seed_table import report
from distill.runs.folder import RunFolder


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
    runs: list[RunFolder] = []
    for folder in map(RunFolder, arguments.runs):
        seeds = (folder.read_recipe().get("run") or {}).get("seeds")
        runs += [folder.seed(seed) for seed in seeds] if seeds else [folder]
    report(runs, arguments.stage, arguments.json)
