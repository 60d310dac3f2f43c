"""What TensorBoard and MLflow hold is what was logged, over resumptions."""

import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.runs.folder import RunFolder
from distill.runs.replacement import replace
from distill.runs.scalar_dashboards import mlflow_logger, tensorboard_logger

CUT, RESUMED = 5, 3  # a run of eight steps is cut off at the one, and goes on from the other


def loss(step: int, resumed: bool) -> float:
    return 1.0 / (1 + step) + resumed


def test_a_resumed_run_continues_its_event_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = tensorboard_logger(folder)
    for step in range(CUT):
        first.log_metrics({"train/loss": loss(step, False), "hours": step / 4}, step)
    first.log_metrics({"val/box/AP/storage tank": 0.5}, 2)
    first.finalize("failed")
    second = tensorboard_logger(folder, keep_until=RESUMED)
    for step in range(RESUMED, 8):
        second.log_metrics({"train/loss": loss(step, True)}, step)
    second.finalize("success")
    assert {path.name for path in tmp_path.iterdir()} == {"tensorboard"}
    read = EventAccumulator(str(folder.tensorboard)).Reload()
    found = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert found == [(step, pytest.approx(loss(step, step >= RESUMED))) for step in range(8)]
    assert [event.step for event in read.Scalars("hours")] == [0, 1, 2]
    (score,) = (read.Scalars(name) for name in read.Tags()["scalars"] if name.startswith("val/box/AP"))
    assert [(event.step, event.value) for event in score] == [(2, 0.5)]


def test_a_resumed_run_continues_its_mlflow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not tested: pip install 'distill-rs[mlflow]'")
    pytest.importorskip("alembic", reason="MLflow is not tested: pip install 'distill-rs[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = RunFolder(tmp_path / "first")
    first = mlflow_logger(folder, "experiment", {"student": "RS4D tiny", "params": 813696})
    for step in range(CUT):
        first.log_metrics({"train/loss": loss(step, False)}, step)
    first.finalize("failed")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not mlflow.is_tracking_uri_set()
    second = mlflow_logger(folder, "experiment", {"student": "RS4D tiny", "params": 1})
    for step in range(CUT, 8):
        second.log_metrics({"train/loss": loss(step, False)}, step)
    second.finalize("success")
    assert second.run_id == first.run_id
    run = second.experiment.get_run(second.run_id)
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params == {"student": "RS4D tiny", "params": "813696"}
    found = second.experiment.get_metric_history(second.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in found] == [(step, loss(step, False)) for step in range(8)]
    assert {path.name for path in folder.path.iterdir()} == {"mlflow"}
    replace(folder, lambda: None)  # a run that starts over, in the same process
    third = mlflow_logger(folder, "experiment", {})
    third.log_metrics({"train/loss": 1.0}, 0)
    assert third.run_id != first.run_id
    assert len(third.experiment.search_runs(["1"])) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/server.db")
    fourth = mlflow_logger(folder, "experiment", {})
    assert fourth.run_id != third.run_id
    assert (tmp_path / "server.db").is_file()
