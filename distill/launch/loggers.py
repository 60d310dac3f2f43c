"""Where metrics go: always metrics.csv, and W&B when it is installed."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pytorch_lightning.loggers import Logger

from distill.runs.folder import RunFolder
from distill.runs.loggers import RunCSVLogger


def build_loggers(folder: RunFolder, experiment: str, kind: str, facts: Mapping[str, Any], keep: int) -> list[Logger]:
    """The loggers of one fit.

    Args:
        folder: The run folder.
        experiment: Group of the run, so that W&B compares its runs.
        kind: "distil" or "fine-tune".
        facts: Components, settings and costs, for W&B's config and summary.
        keep: See `RunCSVLogger`.
    """
    loggers: list[Logger] = [RunCSVLogger(folder, keep)]
    if wants_wandb():
        from distill.report.wandb import RunWandbLogger

        loggers.append(RunWandbLogger(folder, experiment, kind, facts))
    return loggers


def log_scores(folder: RunFolder, experiment: str, facts: Mapping[str, Any], stage: str) -> None:
    """Adds what a test or a validation wrote to the run's dashboard.

    Args:
        folder: The run folder.
        experiment: Group of the run.
        facts: Components and settings.
        stage: "test" or "validate".
    """
    if wants_wandb():
        from distill.report import wandb

        wandb.log_scores(folder, experiment, facts, folder.read_scores(stage))


def wants_wandb() -> bool:
    """Whether W&B is installed and not switched off."""
    return find_spec("wandb") is not None and os.environ.get("WANDB_MODE") != "disabled"
