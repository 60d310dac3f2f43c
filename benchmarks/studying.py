"""What the studies share: runs that are kept and resumed, processes of one thread, and means with their intervals."""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

import distill


def fit_once(recipe: dict[str, Any]) -> Path:
    """Fits what a recipe describes, unless that is done; goes on where it was interrupted.

    Args:
        recipe: With `run.dir`.

    Returns:
        The run folder.
    """
    folder = Path(recipe["run"]["dir"])
    if not (folder / "summary.json").exists():
        resume = {"ckpt_path": "last"} if (folder / "checkpoints/last.ckpt").exists() else {}
        distill.fit(recipe, **resume)
    return folder


def on_one_thread(script: str, words: Sequence[object]) -> None:
    """Runs a script in a process of its own, so that no run leaves anything behind for the next.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, script, *map(str, words)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and 95 % t-interval over seeds; of one seed, its value."""
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return f"{mean:.{digits}f}"
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
