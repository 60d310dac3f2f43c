import csv
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytorch_lightning.loggers import Logger

from distill.runs.folder import RunFolder
from distill.runs.loggers import GuardedLogger, RunLogger
from distill.runs.metrics_file import MetricsFile


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_resumed_run_continues_its_metrics(tmp_path: Path) -> None:
    first = MetricsFile(RunFolder(tmp_path))
    for step in range(6):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    resumed = MetricsFile(RunFolder(tmp_path), keep_until=4)
    resumed.log_metrics({"loss": 4.0, "new": 1.0}, 4)
    resumed.save()
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_a_fresh_run_starts_afresh(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        logger = MetricsFile(RunFolder(tmp_path))
        logger.log_metrics({"loss": value}, 0)
        logger.save()
    assert steps(tmp_path) == [0]


def test_what_comes_before_the_first_step_is_not_lost(tmp_path: Path) -> None:
    clock = iter([0.25, 0.5])
    waiting = RunLogger(RunFolder(tmp_path), lambda: next(clock))
    waiting.log_metrics({"lr": 0.5}, 0)
    assert not list(tmp_path.iterdir())
    waiting.write_to(MetricsFile(RunFolder(tmp_path)))
    waiting.log_metrics({"loss": 1.0}, 0)
    waiting.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["hours,loss,lr,step", "0.25,,0.5,0", "0.5,1.0,,0"]


class Failing(Logger):
    """Takes one row, and no second one."""

    name = version = "failing"  # type: ignore[assignment]

    def __init__(self) -> None:
        self.rows: list[float] = []

    def log_hyperparams(self, *_: object) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append(metrics["loss"])
        if len(self.rows) > 1:
            raise ConnectionError("the server is gone.\nTraceback")


def test_a_dashboard_that_fails_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = Failing()

    def closed() -> Logger:
        raise TimeoutError

    logger = RunLogger(RunFolder(tmp_path), lambda: 0.0)
    dashboards = [GuardedLogger("mlflow", closed), GuardedLogger("tensorboard", lambda: failing)]
    logger.write_to(MetricsFile(RunFolder(tmp_path)), dashboards)
    for step in range(4):
        logger.log_metrics({"loss": float(step)}, step)
    logger.finalize("success")
    assert failing.rows == [0.0, 1.0]
    assert steps(tmp_path) == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "mlflow fails, and the run goes on without it: TimeoutError",
        "tensorboard fails, and the run goes on without it: the server is gone",
    ]
