"""Where metrics go: always metrics.csv, and W&B offline when it is installed."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities import rank_zero_only


class RunCSVLogger(CSVLogger):
    """Lightning's CSV logger writing `metrics.csv` straight into the run folder, which a resumed run continues.

    Args:
        folder: The run folder.
        keep_until: Step from which an interrupted run goes on; rows before it are kept. -1 starts afresh.
    """

    def __init__(self, folder: Path, keep_until: int = -1) -> None:
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=20)
        path = folder / "metrics.csv"
        rows: list[dict[str, Any]] = []
        if keep_until >= 0 and path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = [
                    {key: value for key, value in row.items() if value != ""}
                    for row in csv.DictReader(file)
                    if (row.get("step") or "").isdigit() and int(row["step"]) < keep_until
                ]
        self._kept = rows

    @property
    def experiment(self) -> Any:
        """The writer; the first access puts the kept rows back, which the writer deletes on opening."""
        fresh = self._experiment is None
        writer = super().experiment
        if fresh and self._kept and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            writer.metrics.extend(self._kept)
            writer.save()
        return writer

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: recipe.yaml holds them."""


class WaitingLogger(Logger):
    """Keeps what is logged until there are loggers to write it.

    Args:
        folder: The run folder, where callbacks ask for it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._rows: list[tuple[dict[str, float], int | None]] = []

    @property
    def name(self) -> str:
        """As that of `RunCSVLogger`."""
        return ""

    @property
    def version(self) -> str:
        """As that of `RunCSVLogger`."""
        return ""

    @property
    def save_dir(self) -> str:
        """As that of `RunCSVLogger`."""
        return str(self._folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keeps a row."""
        self._rows.append((dict(metrics), step))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: recipe.yaml holds them."""

    def pass_on(self, loggers: Sequence[Logger]) -> None:
        """Hands the rows over."""
        for metrics, step in self._rows:
            for logger in loggers:
                logger.log_metrics(metrics, step)


def build_loggers(
    folder: Path, name: str, experiment: str, kind: str, facts: Mapping[str, Any], keep: int
) -> list[Logger]:
    """The loggers of one fit.

    Args:
        folder: The run folder.
        name: Name of the run.
        experiment: Group of the run, so that W&B compares students side by side.
        kind: "distil" or "fine-tune".
        facts: Components, settings and costs, for W&B's config and summary.
        keep: See `RunCSVLogger`.
    """
    loggers: list[Logger] = [RunCSVLogger(folder, keep)]
    if wants_wandb():
        from distill.report.wandb import RunWandbLogger

        loggers.append(RunWandbLogger(folder, name, experiment, kind, facts))
    return loggers


def log_scores(folder: Path, name: str, experiment: str, facts: Mapping[str, Any], stage: str) -> None:
    """Adds what a test or a validation wrote to the run's dashboard.

    Args:
        folder: The run folder.
        name: Name of the run.
        experiment: Group of the run.
        facts: Components and settings.
        stage: "test" or "validate".
    """
    if wants_wandb():
        from distill.report import wandb

        scores = json.loads((folder / f"{stage}.json").read_text(encoding="utf-8"))
        wandb.log_scores(folder, name, experiment, facts, scores)


def wants_wandb() -> bool:
    """Whether W&B is installed and not switched off."""
    return find_spec("wandb") is not None and os.environ.get("WANDB_MODE") != "disabled"
