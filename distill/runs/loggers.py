"""Where metrics go while a run trains: into metrics.csv, and wherever dashboards are."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities import rank_zero_only

from distill.runs.folder import RunFolder


class RunLogger(Logger):
    """The one logger of a trainer: it keeps what is logged until the run folder is open, then hands it on.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder
        self._kept: list[tuple[dict[str, float], int | None]] = []
        self._writers: Sequence[Logger] = ()

    @property
    def name(self) -> str:
        """Empty: files lie in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty, too."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._folder)

    def write_to(self, writers: Sequence[Logger]) -> None:
        """Hands on what was kept, and from now on whatever is logged.

        Args:
            writers: Loggers whose files are in the run folder.
        """
        self._writers = writers
        for metrics, step in self._kept:
            self.log_metrics(metrics, step)
        self._kept = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hands a row on, or keeps it."""
        if not self._writers:
            self._kept.append((dict(metrics), step))
        for writer in self._writers:
            writer.log_metrics(dict(metrics), step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """No-op: hyperparameters are in recipe.yaml."""

    def save(self) -> None:
        """Writes what is buffered."""
        for writer in self._writers:
            writer.save()

    def finalize(self, status: str) -> None:
        """Ends all writers."""
        for writer in self._writers:
            writer.finalize(status)


class RunCSVLogger(CSVLogger):
    """Lightning's CSV logger writing `metrics.csv` straight into the run folder, which a resumed run continues.

    Args:
        folder: The run folder.
        keep_until: Step from which an interrupted run resumes; rows before it are kept. -1 keeps none.
    """

    def __init__(self, folder: RunFolder, keep_until: int = -1) -> None:
        super().__init__(folder.path, name="", version="", flush_logs_every_n_steps=20)
        rows: list[dict[str, Any]] = []
        if keep_until >= 0 and folder.metrics.is_file():
            with folder.metrics.open(encoding="utf-8", newline="") as file:
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
        """No-op: hyperparameters are in recipe.yaml."""
