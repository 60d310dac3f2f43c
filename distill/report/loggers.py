"""Where metrics go: always metrics.csv, and W&B offline when it is installed."""

import csv
import os
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


def build_loggers(
    folder: Path, name: str, experiment: str, kind: str, facts: dict[str, Any], keep: int
) -> list[Logger]:
    """The loggers of one run.

    Args:
        folder: The run folder.
        name: Name of the run.
        experiment: Group of the run, so that W&B compares students side by side.
        kind: "distil", "fine-tune" or "test".
        facts: Components and costs, for config and summary.
        keep: See `RunCSVLogger`.
    """
    loggers: list[Logger] = [] if kind == "test" else [RunCSVLogger(folder, keep)]
    if find_spec("wandb") is not None and os.environ.get("WANDB_MODE") != "disabled":
        from distill.report.wandb import build_wandb_logger

        loggers.append(build_wandb_logger(folder, name, experiment, kind, facts))
    return loggers
