"""What the studies share: runs and targets that are kept, processes of one thread, and means with their intervals."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

import distill
from distill.cli import main as command


def fit_once(recipe: dict[str, Any], *before: str) -> Path:
    """Fits what a recipe describes, unless that is done; goes on where it was interrupted.

    Args:
        recipe: With `run.dir`.
        before: Recipes of the package that it goes over.

    Returns:
        The run folder.
    """
    folder = Path(recipe["run"]["dir"])
    if not (folder / "summary.json").exists():
        resume = {"ckpt_path": "last"} if (folder / "checkpoints/last.ckpt").exists() else {}
        distill.fit([*before, recipe], **resume)
    return folder


def distil_once(recipe: dict[str, Any], cache: Path) -> Path:
    """The same for a distillation on stored targets, which are computed where they are not there.

    Args:
        recipe: With `run.dir` and a pool of views.
        cache: The folder of the targets, for all recipes of one teacher and the same views.

    Raises:
        SystemExit: The targets cannot be made.
    """
    if not (Path(recipe["run"]["dir"]) / "summary.json").exists():
        written = cache.with_name(f"{cache.name}.yaml")
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(recipe), encoding="utf-8")
        if code := command(["cache", str(written), "--out", str(cache)]):
            raise SystemExit(code)
        recipe["model"]["init_args"]["cache"] = {"root": str(cache)}
    return fit_once(recipe)


def on_one_thread(script: str, words: Sequence[object]) -> None:
    """Runs a script in a process of its own, so that no run leaves anything behind for the next.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, script, *map(str, words)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and 95 % t-interval over seeds; of one seed, its value."""
    mean, count = round(statistics.fmean(values), digits) + 0.0, len(values)  # + 0.0: not -0.0
    if count < 2:
        return f"{mean:.{digits}f}"
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
