"""Which runs a sweep has, and where each of them is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import parse_yaml
from distill.launch.parse import ParsedRecipe
from distill.launch.quiet import quiet
from distill.recipe.axes import Cell
from distill.recipe.check import check
from distill.recipe.command_line import overridden
from distill.runs.differences import differing
from distill.runs.folder import RunFolder, RunState
from distill.runs.missing_paths import require_paths
from distill.runs.replacement import recover

# What the sweep sets, or what would start it over each time that it goes on; and what is to be given in its place.
_OURS = {
    "run.dir": "the folder of the sweep as --out",
    "run.experiment": "the folder of the sweep as --out",
    "run.seeds": "--seeds 0,1,2",
    "seed_everything": "--seeds 0,1,2",
    "ckpt_path": "nothing; interrupted runs are resumed by themselves",
    "run.overwrite": "another folder as --out, or remove this one",
}


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        cell: Its values.
        seed: Its seed.
        folder: Its run folder.
    """

    cell: Cell
    seed: int
    folder: RunFolder

    @property
    def name(self) -> str:
        """Its folder inside that of the sweep."""
        return f"{self.cell.name}/{self.folder.name}"


@dataclass(frozen=True)
class Plan:
    """The settings that all runs of a sweep share.

    Attributes:
        recipes: The recipes as somebody named them, or their content.
        words: Overrides for every run, pairs of key and value.
        seeds: The seeds of every cell.
        folder: The folder of the sweep.

    Raises:
        UserError: A seed twice or none, or an override of what the sweep sets itself.
    """

    recipes: tuple[str | Mapping[str, Any], ...]
    words: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not all(0 <= s < 2**32 for s in self.seeds):
            raise UserError(f"seeds are {list(self.seeds)}; give different whole numbers from 0 on, such as 0,1,2")
        for word in self.words:
            if (key := word.removeprefix("--").partition("=")[0]) in _OURS:
                raise UserError(f"a sweep sets {key} for each run; give {_OURS[key]}")

    def runs(self, cells: Sequence[Cell]) -> list[Run]:
        """The runs of cells: all of the first seed, then all of the second, so that a comparison is there early."""
        return [Run(cell, seed, RunFolder(self.folder / cell.name).seed(seed)) for seed in self.seeds for cell in cells]

    def parsed(self, run: Run, *words: str) -> ParsedRecipe:
        """The recipe of a run.

        Raises:
            UserError: A key, a class or a value that cannot be; the message names the cell.
        """
        own = [f"--run.dir={run.folder}", f"--run.experiment={self.folder.name}/{run.cell.name}", "--run.seeds=null"]
        own += [f"--seed_everything={run.seed}", *words]
        try:
            with quiet():
                recipe, given = overridden([*self.recipes, *run.cell.recipes], [*self.words, *run.cell.words, *own])
                check("fit", recipe, given)
                return ParsedRecipe("fit", recipe, given)
        except UserError as error:
            raise UserError(f"{run.cell.name}: {error}") from error

    def require_possible(self, runs: Sequence[Run], files: bool = True) -> None:
        """Parses every recipe before the first run starts, and refuses to go on with runs of other recipes.

        Args:
            runs: What is to be done.
            files: Whether files that recipes of fresh runs name must exist. Other machines may have what this one has
                not, and of a search a missing one is the failure of its cell.

        Raises:
            UserError: See `parsed`; or a file does not exist, or a run folder holds a run of another recipe.
        """
        for run in runs:
            recover(run.folder)
            fresh = run.folder.state is RunState.FRESH
            if fresh and run.seed != self.seeds[0]:
                continue  # as that of the first seed
            recipe = self.parsed(run)
            if fresh:
                if files:
                    require_paths(recipe.recipe, recipe.words)
                continue
            if keys := differing([parse_yaml(recipe.text()), run.folder.read_recipe()]):
                raise UserError(
                    f"{run.folder} holds a run of another recipe, which differs in {', '.join(keys)}; choose another "
                    "folder with --out, or remove that one"
                )
