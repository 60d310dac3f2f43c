import csv
from pathlib import Path

from distill.runs.folder import RunFolder
from distill.runs.loggers import RunCSVLogger, RunLogger


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_resumed_run_continues_its_metrics(tmp_path: Path) -> None:
    first = RunCSVLogger(RunFolder(tmp_path))
    for step in range(6):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    resumed = RunCSVLogger(RunFolder(tmp_path), keep_until=4)
    resumed.log_metrics({"loss": 4.0, "new": 1.0}, 4)
    resumed.save()
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_a_fresh_run_starts_afresh(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        logger = RunCSVLogger(RunFolder(tmp_path))
        logger.log_metrics({"loss": value}, 0)
        logger.save()
    assert steps(tmp_path) == [0]


def test_what_comes_before_the_first_step_is_not_lost(tmp_path: Path) -> None:
    waiting = RunLogger(RunFolder(tmp_path))
    waiting.log_metrics({"lr": 0.5}, 0)
    assert not list(tmp_path.iterdir())
    logger = RunCSVLogger(RunFolder(tmp_path))
    waiting.write_to([logger])
    waiting.log_metrics({"loss": 1.0}, 0)
    waiting.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["loss,lr,step", ",0.5,0", "1.0,,0"]
