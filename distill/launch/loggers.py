"""Where metrics go: always metrics.csv, and the dashboards of `run.loggers`."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pytorch_lightning.loggers import Logger

from distill.errors import UserError, unknown_name
from distill.runs.folder import RunFolder
from distill.runs.loggers import GuardedLogger
from distill.runs.scalar_dashboards import mlflow_logger, tensorboard_logger

# What each of them imports; the extra of pyproject.toml has the same name.
_PACKAGES = {"wandb": ("wandb",), "tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


def require_loggers(names: Sequence[str] | None) -> None:
    """Refuses unknown dashboards.

    Args:
        names: `run.loggers`.

    Raises:
        UserError: A name is unknown, or its package is not installed.
    """
    for name in names or ():
        if name not in _PACKAGES:
            raise unknown_name("dashboard in run.loggers", name, _PACKAGES)
        if missing := [package for package in _PACKAGES[name] if find_spec(package) is None]:
            raise UserError(
                f"run.loggers names {name}, but {' and '.join(missing)} cannot be imported; pip install "
                f"'distill-rs[{name}]', or leave it out"
            )


def build_dashboards(
    folder: RunFolder, names: Sequence[str] | None, experiment: str, facts: Mapping[str, Any], keep: int
) -> list[GuardedLogger]:
    """The dashboards of one fit.

    Args:
        folder: The run folder.
        names: `run.loggers`.
        experiment: Group of the run, in which dashboards compare runs.
        facts: Components, settings and costs, for W&B's config and summary and MLflow's parameters.
        keep: Step from which an interrupted run resumes; -1 for a new one.
    """
    opened: dict[str, Callable[[], Logger]] = {}
    if wants_wandb(names):
        from distill.report.dashboards.live import RunWandbLogger

        opened["wandb"] = lambda: RunWandbLogger(folder, facts)
    return [
        GuardedLogger(name, open_logger)
        for name, open_logger in (opened | _scalar_dashboards(folder, names, experiment, facts, keep)).items()
    ]


def log_scores(
    folder: RunFolder, names: Sequence[str] | None, experiment: str, facts: Mapping[str, Any], stage: str, step: int
) -> None:
    """Adds what a test or a validation wrote to the run's dashboards.

    Args:
        folder: The run folder.
        names: `run.loggers`.
        experiment: Group of the run.
        facts: Components and settings.
        stage: "test" or "validate".
        step: Optimizer steps of the checkpoint that was scored.
    """
    scores = folder.read_scores(stage)
    if wants_wandb(names):
        from distill.report.dashboards import live

        live.log_scores(folder, facts, stage)
    defined = {name: value for name, value in scores.items() if value is not None}
    for name, open_logger in _scalar_dashboards(folder, names, experiment, facts, -1).items():
        dashboard = GuardedLogger(name, open_logger)
        dashboard.tell(lambda logger: logger.log_metrics(defined, step))
        dashboard.tell(lambda logger: logger.finalize("success"))


def wants_wandb(names: Sequence[str] | None) -> bool:
    """Whether the run asks for W&B, or does not say, and it is installed and not switched off."""
    asked = names is None or "wandb" in names
    return asked and find_spec("wandb") is not None and os.environ.get("WANDB_MODE") != "disabled"


def _scalar_dashboards(
    folder: RunFolder, names: Sequence[str] | None, experiment: str, facts: Mapping[str, Any], keep: int
) -> dict[str, Callable[[], Logger]]:
    known: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: tensorboard_logger(folder, keep),
        "mlflow": lambda: mlflow_logger(folder, experiment, facts),
    }
    return {name: known[name] for name in names or () if name in known}
