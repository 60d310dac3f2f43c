import csv
from pathlib import Path

import pytest

from distill.report.loggers import RunCSVLogger, build_loggers


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_resumed_run_continues_its_metrics(tmp_path: Path) -> None:
    first = RunCSVLogger(tmp_path)
    for step in range(6):
        first.log_metrics({"loss": float(step)}, step)
    first.save()
    resumed = RunCSVLogger(tmp_path, keep_until=4)
    resumed.log_metrics({"loss": 4.0, "new": 1.0}, 4)
    resumed.save()
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_a_fresh_run_starts_afresh(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        logger = RunCSVLogger(tmp_path)
        logger.log_metrics({"loss": value}, 0)
        logger.save()
    assert steps(tmp_path) == [0]


def test_wandb_writes_offline_runs_grouped_and_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    facts = {"student": "RS4D tiny", "params": 5, "macs": 7, "cpu_latency_ms": 1.5}
    logger = build_loggers(tmp_path, "a", "first", "distil", facts, -1)[1]
    run = logger.experiment  # type: ignore[attr-defined]
    try:
        assert run.settings._offline
        assert (run.group, run.job_type, run.config["student"]) == ("first", "distil", "RS4D tiny")
        assert run.summary["macs"] == 7
    finally:
        wandb.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*"))
