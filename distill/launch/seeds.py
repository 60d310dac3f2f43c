"""A recipe that asks for several seeds (`run.seeds`): an ordinary run for each, then mean and spread of their scores.

The folder of such a recipe holds `seed0/`, `seed1/`, ..., each a run folder like any other, `recipe.yaml` with the list
of seeds, and `test_seeds.json` (of a distillation, which has no test split, `validate_seeds.json`).
"""

from distill.errors import UserError
from distill.files import parse_yaml, write_json, write_text
from distill.launch.cached_teacher import cache_root
from distill.launch.fit import Fitted, fit_one
from distill.launch.parse import ParsedRecipe
from distill.launch.score import Scores, score_one
from distill.phases import line_console
from distill.rank import is_rank_zero
from distill.report.compare.seed_table import seed_table
from distill.report.run_record import RunRecord
from distill.runs.differences import differing
from distill.runs.folder import RunFolder, RunState
from distill.runs.replacement import recover


def fit_seeds(recipe: ParsedRecipe) -> list[Fitted]:
    """Fits a run for every seed and scores it; starting again resumes where it stopped.

    A finished seed is only scored, an interrupted one is resumed.

    Returns:
        The runs that were not finished before.

    Raises:
        UserError: Fewer than two seeds, a run of another recipe in the way, or whatever stops a single run.
    """
    runs = _runs(recipe)
    if recipe.config.ckpt_path is not None:
        raise _wrong_checkpoint(recipe, "leave it out, interrupted seeds are resumed by themselves")
    if cache_root(recipe.config.model) is not None and recipe.config.data.init_args.get("seed") is None:
        raise UserError(
            "a cache is of the views of one seed, and data.seed is that of the run by default; set data.seed, for "
            "example --data.seed 0, so that the runs of run.seeds share the views of model.cache.root"
        )
    text, overwrite = recipe.text(), recipe.settings.overwrite
    _require_place(recipe.folder, list(runs.values()), text, overwrite)
    scored = "test" if "test" in recipe.task_class.stages else "validate"
    fitted: list[Fitted | None] = []
    for seed, run in runs.items():
        if overwrite or run.state is not RunState.FINISHED:
            resumes = run.state is RunState.INTERRUPTED and not overwrite
            resume = ["--ckpt_path=last"] if resumes else []
            fitted.append(fit_one(_single(recipe, recipe.stage, seed, run, *resume)))
            if is_rank_zero():  # not earlier: a recipe that cannot run changes nothing
                for table in (recipe.folder.seed_scores(stage) for stage in ("validate", "test")):
                    table.unlink(missing_ok=True)  # of other runs than there are now
                write_text(recipe.folder.recipe, text)
        score_one(ParsedRecipe.read(scored, [str(run)]))
    _write_table(recipe.folder, list(runs.values()), scored)
    return [one for one in fitted if one is not None]


def score_seeds(recipe: ParsedRecipe) -> Scores:
    """Scores the run of every seed.

    Returns:
        Means of the scores.

    Raises:
        UserError: Fewer than two seeds, or whatever stops a single run.
    """
    runs = _runs(recipe)
    if recipe.config.ckpt_path not in (None, "last", "best"):
        raise _wrong_checkpoint(recipe, "give last or best")
    for seed, run in runs.items():
        score_one(_single(recipe, recipe.stage, seed, run))
    return _write_table(recipe.folder, list(runs.values()), recipe.stage)


def _runs(recipe: ParsedRecipe) -> dict[int, RunFolder]:
    """The run folder of each seed."""
    seeds = recipe.settings.seeds
    if len(set(seeds)) < max(2, len(seeds)) or not all(0 <= seed < 2**32 for seed in seeds):
        raise UserError(
            f"run.seeds is {seeds}; give two or more different ones, for example [0, 1, 2], or for a single run "
            "seed_everything"
        )
    return {seed: recipe.folder.seed(seed) for seed in seeds}


def _single(recipe: ParsedRecipe, stage: str, seed: int, run: RunFolder, *words: str) -> ParsedRecipe:
    """The recipe of one run."""
    own = [f"--run.dir={run}", f"--run.experiment={recipe.settings.experiment}", "--run.seeds=null"]
    return recipe.again(stage, *own, f"--seed_everything={seed}", *words)


def _write_table(folder: RunFolder, runs: list[RunFolder], stage: str) -> Scores:
    """Prints and stores mean and spread, where this process reports."""
    if not is_rank_zero():
        return {}
    found = seed_table([RunRecord.read(run) for run in runs], stage)
    for part in found.shown():
        line_console().print(part)
    write_json(folder.seed_scores(stage), found.rows)
    print(f"Wrote {folder}/: {', '.join(run.name for run in runs)}, {folder.seed_scores(stage).name}")
    return {name: row["mean"] for name, row in found.rows.items()}


def _wrong_checkpoint(recipe: ParsedRecipe, way_out: str) -> UserError:
    given = recipe.config.ckpt_path
    return UserError(f"ckpt_path is {given!r}, but with run.seeds each seed has checkpoints of its own; {way_out}")


def _require_place(folder: RunFolder, runs: list[RunFolder], recipe: str, overwrite: bool) -> None:
    """Refuses to mix recipes, unless each run is to be replaced by its own successor."""
    for run in runs:
        recover(run)
    if folder.checkpoints.exists():
        raise UserError(f"{folder} holds the run of a single seed; choose another folder with --run.dir")
    if overwrite:
        return
    for run in runs:
        if run.state is RunState.FRESH:
            continue
        if keys := differing([parse_yaml(recipe), run.read_recipe()]):
            raise UserError(
                f"{run} holds a run of another recipe, which differs in {', '.join(keys)}; start all seeds over with "
                "--run.overwrite true, or choose another folder with --run.dir"
            )
