"""A recipe that asks for several seeds (`run.seeds`): an ordinary run for each, then mean and spread of their scores.

The folder of such a recipe holds `seed0/`, `seed1/`, ..., each a run folder like any other, `recipe.yaml` with the list
of seeds, and `test_seeds.json` (of a distillation, which has no test split, `validate_seeds.json`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml  # type: ignore[import-untyped]
from pytorch_lightning.utilities import rank_zero_only

from distill.cli.seeds import differing, report, seed_folders
from distill.errors import UserError
from distill.files import write_json, write_text
from distill.runs.checkpoint_io import LAST, PREVIOUS
from distill.runs.metadata import run_kind
from distill.runs.replacement import recover

if TYPE_CHECKING:
    from distill.launch.run import RecipeCLI


def run_each(cli: "RecipeCLI", words: list[str], start: Callable[[list[str]], None]) -> None:
    """Runs the stage for every seed, then prints and stores the table over them.

    Fitting continues where it stopped: a finished seed is only scored, an interrupted one is resumed.

    Args:
        cli: The parsed recipe.
        words: What it was parsed from, without the stage.
        start: Starts a single run from its words, the stage first.

    Raises:
        UserError: Fewer than two seeds, a run of another recipe in the way, or whatever stops a single run.
    """
    stage, folder, settings = cli.stage, cli.folder, cli.settings
    given = cli.config[stage]
    _require_seeds(settings.seeds)
    _require_no_checkpoint(stage, given.ckpt_path)
    runs = dict(zip(settings.seeds, seed_folders(folder, settings.seeds), strict=True))
    recipe = cli.resolved_recipe() if stage == "fit" else ""
    if stage == "fit":
        _require_place(folder, list(runs.values()), recipe, settings.overwrite)
    scored = stage if stage != "fit" else "validate" if run_kind(cli.module_class, "fit") == "distil" else "test"
    for seed, run in runs.items():
        own = [f"--run.dir={run}", f"--run.experiment={settings.experiment}", "--run.seeds=null"]
        single = [*words, *own, f"--seed_everything={seed}"]
        if stage != "fit":
            start([stage, *single])
            continue
        if settings.overwrite or not _finished(run):
            resumes = _interrupted(run) and not settings.overwrite
            start(["fit", *single, *(["--ckpt_path=last"] if resumes else [])])
            if _reports():  # not earlier: a recipe that cannot run changes nothing
                for table in folder.glob("*_seeds.json"):  # of other runs than there are now
                    table.unlink()
                write_text(folder / "recipe.yaml", recipe)
        start([scored, str(run)])
    if _reports():
        write_json(folder / f"{scored}_seeds.json", report(list(runs.values()), scored))
        print(f"Wrote {folder}/: {', '.join(run.name for run in runs.values())}, {scored}_seeds.json")


def _require_seeds(seeds: list[int]) -> None:
    if len(set(seeds)) < max(2, len(seeds)) or not all(0 <= seed < 2**32 for seed in seeds):
        raise UserError(
            f"run.seeds is {seeds}; give two or more different ones, for example [0, 1, 2], or for a single run "
            "seed_everything"
        )


def _require_no_checkpoint(stage: str, path: str | None) -> None:
    if path is not None and (stage == "fit" or path not in ("last", "best")):
        way_out = "leave it out, interrupted seeds are resumed by themselves" if stage == "fit" else "give last or best"
        raise UserError(f"ckpt_path is {path!r}, but with run.seeds each seed has checkpoints of its own; {way_out}")


def _require_place(folder: Path, runs: list[Path], recipe: str, overwrite: bool) -> None:
    """Refuses to mix recipes, unless each run is to be replaced by its own successor."""
    for run in runs:
        recover(run)
    if (folder / "checkpoints").exists():
        raise UserError(f"{folder} holds the run of a single seed; choose another folder with --run.dir")
    if overwrite:
        return
    for run in (run for run in runs if _finished(run) or _interrupted(run)):
        keys = differing([yaml.safe_load(recipe), yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))])
        if keys:
            raise UserError(
                f"{run} holds a run of another recipe, which differs in {', '.join(keys)}; start all seeds over with "
                "--run.overwrite true, or choose another folder with --run.dir"
            )


def _finished(run: Path) -> bool:
    return (run / "summary.json").is_file()


def _interrupted(run: Path) -> bool:
    return not _finished(run) and any((run / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS))


def _reports() -> bool:
    """Whether this is the one process, of those that train together, that reports."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)
