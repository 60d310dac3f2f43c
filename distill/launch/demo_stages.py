"""Which trainings of a demo are there already, so that a demo that was stopped goes on.

A run counts only with the recipe that the demo gives it, every default included, with the versions of all packages that
it was trained with, and after the run whose weights it starts from.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from distill.errors import UserError
from distill.files import parse_yaml
from distill.launch.parse import ParsedRecipe
from distill.runs.folder import RunFolder, RunState
from distill.runs.metadata import environment
from distill.runs.replacement import recover

# What the numbers of a run depend on beside its recipe. The commit is known where the demo runs in a clone.
_FACTS = ("versions", "git")


def states(
    runs: Mapping[str, RunFolder], fits: Mapping[str, Sequence[str]], needs: Mapping[str, str]
) -> dict[str, RunState]:
    """The state of each run; one of another recipe or version counts as fresh.

    Args:
        runs: Run folders by name.
        fits: The words of `distill fit`, without the verb, by name; a run comes after the one that it needs.
        needs: The run whose weights a run starts from.
    """
    now = _facts(environment())
    found: dict[str, RunState] = {}
    for name, words in fits.items():
        complete = name not in needs or found[needs[name]] is RunState.FINISHED
        found[name] = _state(runs[name], words, now) if complete else RunState.FRESH
    return found


def is_scored(run: RunFolder) -> bool:
    """Whether a finished run has the scores of its last checkpoint on all test images, as `distill test RUN` has them.

    Training on, or anew, removes them.
    """
    facts = run.read_facts("test")
    as_usual = facts.get("checkpoint") == run.LAST and not facts.get("overrides")
    return run.scores("test").is_file() and as_usual


def remove(run: RunFolder) -> None:
    """Removes what a run has written, and leaves other files of its folder."""
    for path in filter(lambda path: path.exists(), run.written()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _state(run: RunFolder, words: Sequence[str], now: Mapping[str, Any]) -> RunState:
    recover(run)
    if run.state not in (RunState.FINISHED, RunState.INTERRUPTED):
        return RunState.FRESH
    try:
        begun = run.read_recipe()
    except UserError:  # none, or a damaged one
        return RunState.FRESH
    if begun != parse_yaml(ParsedRecipe.read("fit", words).text()) or _facts(run.read_environment()) != now:
        return RunState.FRESH
    if run.state is RunState.INTERRUPTED or not run.card.is_file():
        return RunState.INTERRUPTED  # without a card it ended after the last step; resuming writes what is missing
    return RunState.FINISHED if run.student.is_file() else RunState.FRESH


def _facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: environment.get(key) for key in _FACTS}
