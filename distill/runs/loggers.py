"""Writes metrics to metrics.csv and to dashboards while a run trains."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger

from distill.errors import first_line
from distill.runs.folder import RunFolder

logger = logging.getLogger(__name__)


class GuardedLogger:
    """A logger whose failure does not end a run: after one warning, the run goes on without it.

    Args:
        name: As `run.loggers` has it.
        open_logger: Makes the logger.
    """

    def __init__(self, name: str, open_logger: Callable[[], Logger]) -> None:
        self._name = name
        self._logger: Logger | None = None
        try:
            self._logger = open_logger()
        except Exception as error:
            self._warn(error)

    def tell(self, call: Callable[[Logger], object]) -> None:
        """Calls the logger, unless it has failed before."""
        if self._logger is None:
            return
        try:
            call(self._logger)
        except Exception as error:
            self._logger = None
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        logger.warning("%s fails, and the run goes on without it: %s", self._name, first_line(error))


class PictureLogger(ABC):
    """A logger that takes pictures, too."""

    @abstractmethod
    def log_pictures(self, pictures: Any) -> None:
        """Takes pictures of a validation.

        Args:
            pictures: A `distill.report.pictures.stored.PictureSet`, whose files are in the run folder.
        """


class RunLogger(Logger):
    """The one logger of a trainer: it keeps what is logged until the run folder is open, then hands it on.

    Each row gets the training time so far as `hours`.

    Args:
        folder: The run folder.
        hours: Tells the training time.
    """

    def __init__(self, folder: RunFolder, hours: Callable[[], float]) -> None:
        super().__init__()
        self._folder = folder
        self._hours = hours
        self._kept: list[tuple[dict[str, float], int | None]] = []
        self._file: Logger | None = None
        self._dashboards: Sequence[GuardedLogger] = ()

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

    def write_to(self, file: Logger, dashboards: Sequence[GuardedLogger] = ()) -> None:
        """Hands on what was kept, and from now on whatever is logged.

        Args:
            file: The logger of metrics.csv.
            dashboards: Further loggers, whose files are in the run folder.
        """
        self._file, self._dashboards = file, dashboards
        for row, step in self._kept:
            self._write(row, step)
        self._kept = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hands a row on, or keeps it."""
        row = {**metrics, "hours": self._hours()}
        if self._file is None:
            self._kept.append((row, step))
        else:
            self._write(row, step)

    def log_pictures(self, pictures: Any) -> None:
        """Hands pictures to the writers that take them, see `PictureLogger`."""
        self._tell(lambda writer: writer.log_pictures(pictures) if isinstance(writer, PictureLogger) else None)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """No-op: hyperparameters are in recipe.yaml."""

    def save(self) -> None:
        """Writes what is buffered."""
        self._tell(lambda writer: writer.save())

    def finalize(self, status: str) -> None:
        """Ends all writers."""
        self._tell(lambda writer: writer.finalize(status))

    def _write(self, row: dict[str, float], step: int | None) -> None:
        self._tell(lambda writer: writer.log_metrics(dict(row), step))

    def _tell(self, call: Callable[[Logger], object]) -> None:
        if self._file is not None:
            call(self._file)
        for dashboard in self._dashboards:
            dashboard.tell(call)
