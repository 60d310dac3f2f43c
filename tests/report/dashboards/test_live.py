"""What W&B is given by runs while they are made, read back from the files that it writes without a network."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.report.dashboards.fields import config_of, history_of, identity_of, summary_of
from distill.report.pictures.stored import read_pictures
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder
from tests.report.dashboards.stub import serving
from tests.run_folders import write_pictures, write_run

wandb = pytest.importorskip("wandb")
dashboard = pytest.importorskip("distill.report.dashboards.live")
offline = pytest.importorskip("distill.report.dashboards.offline")
files = pytest.importorskip("tests.report.dashboards.wandb_files")
read, written = files.read, files.written

ONE_STEP = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
BLOCK = 32768  # bytes that W&B keeps back until it has them all


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dashboard, "_unusable", False)


def rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a history without pictures and what W&B adds; undefined scores as None, which are equal."""
    return [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items() if not k.startswith("_")}
        for row in history
        if not any(k.startswith(("maps/", "predictions/")) for k in row)
    ]


def picture_files(folder: RunFolder) -> set[bytes]:
    """The files of all pictures of a run."""
    return {
        path.read_bytes() for found in read_pictures(folder) for one in found.pictures for path in one.parts.values()
    }


def fit_in_a_group_of_its_own(words: list[str]) -> None:
    """What a forked process does: it has imported all, and W&B's service belongs to its group."""
    os.setsid()
    main(words)


def test_stages_of_one_process_are_runs_of_their_own(
    distill_recipe: Path, finetune_recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    kinds = {"teacher": "fine-tune", "distill": "distil", "distilled": "fine-tune"}
    for name, kind in kinds.items():
        recipe = finetune_recipe if kind == "fine-tune" else distill_recipe
        weights = [f"--model.student.checkpoint={tmp_path}/distill/student.safetensors"] if name == "distilled" else []
        place = [f"--run.dir={tmp_path / name}", "--run.experiment=demo"]
        assert main(["fit", str(recipe), *ONE_STEP, *place, *weights]) == 0
    assert main(["test", str(tmp_path / "distilled")]) == 0
    left = {key for key in os.environ.keys() - before.keys() if key.startswith("WANDB")}
    assert left <= {"WANDB_SERVICE"}, "settings stay behind for whatever the process does next"
    assert wandb.run is None
    said = capfd.readouterr()
    assert "wandb" not in said.err.lower()

    ids = set()
    for name, kind in kinds.items():
        folder = RunFolder(tmp_path / name)
        record = RunRecord.read(folder)
        first, *rest = written(folder.path)
        assert rows(first.history) == rows(list(history_of(folder)))
        assert any("train/loss" in row for row in first.history)
        assert (first.group, first.job_type, first.exit_code) == ("demo", kind, 0)
        assert first.name == f"{record.student} · {record.init} · seed 0"
        assert first.tags == [record.student, record.data]
        assert len(rest) == (name == "distilled")
        assert {run.id for run in (first, *rest)} == {json.loads((tmp_path / name / "wandb.json").read_text())["id"]}
        assert {k: v for k, v in first.config.items() if not k.startswith("_")} == config_of(record)
        assert first.summary["cost_params"] == json.loads(folder.summary.read_text())["params"]
        ids.add(first.id)
    assert len(ids) == 3
    tested = written(tmp_path / "distilled")[1]
    record = RunRecord.read(RunFolder(tmp_path / "distilled"))
    expected = summary_of(record)
    assert "test_mask_AP" in expected
    assert {key: tested.summary[key] for key in expected} == pytest.approx(expected)
    assert (tested.job_type, tested.group) == ("fine-tune", "demo")
    assert [row for row in tested.history if "train/loss" in row] == []
    assert any(key.startswith("test_classes") for row in tested.history for key in row)


def test_a_run_keeps_its_id_through_failure_resumption_and_validation(
    distill_recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit = ["fit", str(distill_recipe), "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    fit += ["--run.checkpoint_every=1"]
    with pytest.raises(ConnectionAbortedError):
        main([*fit, "--trainer.callbacks+=tests.report.dashboards.wandb_files.Failing"])
    assert main([*fit, "--ckpt_path=last"]) == 0
    assert main(["validate", str(tmp_path / "run")]) == 0
    failed, resumed, validated = written(tmp_path / "run")
    assert failed.id == resumed.id == validated.id
    assert failed.exit_code == 1
    assert [row["trainer/global_step"] for run in (failed, resumed) for row in run.history if "train/loss" in row] == [
        0,
        1,
    ]
    ratio = json.loads((tmp_path / "run" / "validate.json").read_text())["val/l1_ratio"]
    assert resumed.summary["val_l1_ratio"] == validated.summary["val_l1_ratio"] == pytest.approx(ratio)
    assert resumed.summary["best_l1_ratio"] == pytest.approx(ratio)
    for run in (resumed, validated):
        (row,) = [row for row in run.history if any(key.startswith("maps/") for key in row)]
        assert row["trainer/global_step"] == 2
    assert "Images sizes do not match" not in caplog.text, "W&B shows them in the size of the first"
    folder = RunFolder(tmp_path / "run")
    sent = [path for path in folder.wandb.glob("offline-run-*/files/media/images/**/*") if path.is_file()]
    assert {path.read_bytes() for path in sent} == picture_files(folder)

    assert main([*fit, *ONE_STEP, "--run.overwrite=true"]) == 0
    (fresh,) = written(tmp_path / "run")
    assert fresh.id != failed.id


def test_seeds_are_runs_of_one_group(distill_recipe: Path, tmp_path: Path) -> None:
    steps = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1"]
    assert main(["fit", str(distill_recipe), *steps, "--run.seeds=[0, 3]"]) == 0
    folders = {seed: RunFolder(tmp_path / "run" / f"seed{seed}") for seed in (0, 3)}
    runs = {seed: written(folder.path) for seed, folder in folders.items()}
    assert len({run.id for each in runs.values() for run in each}) == 2
    for seed, (fitted, tested) in runs.items():
        assert (fitted.name, fitted.group) == (f"RS4D tiny · scratch · seed {seed}", "run")
        assert fitted.config["seed"] == seed
        assert fitted.id == tested.id == identity_of(RunRecord.read(folders[seed])).id
        assert "val_l1_ratio" in tested.summary


def test_a_test_adds_its_pictures_and_classes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", scores={"test/mask/AP": 0.2}, classes={"ship": (3, 0.2)})
    write_pictures(folder, "fit", 50, ["a.png"])
    write_pictures(folder, "test", 100, ["a.png"])
    dashboard.log_scores(folder, {}, "test")
    (run,) = written(folder.path)
    (shown,) = [row for row in run.history if any(key.startswith("predictions/a") for key in row)]
    assert shown["trainer/global_step"] == 100
    pictures = {path.read_bytes() for path in folder.pictures("test").glob("*.png")}
    assert {path.read_bytes() for path in folder.wandb.glob("offline-run-*/files/media/images/**/*.png")} == pictures
    assert (run.job_type, run.exit_code) == ("test", 0)
    assert run.id == identity_of(RunRecord.read(folder)).id


def test_a_fit_its_test_and_its_resumption_are_one_run_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", scores={"test/mask/AP": 0.25}, history=[{"step": 9, "val/mask/AP": 0.5}])
    write_pictures(folder, "fit", 10, ["a.png"])
    write_pictures(folder, "test", 100, ["a.png"])
    scored = [folder.scores("test"), folder.facts("test")]
    kept = {path: path.read_bytes() for path in scored}
    with serving() as server:
        for key, value in server.environment(tmp_path / "home").items():
            monkeypatch.setenv(key, value)
        wandb.teardown()  # so that the server's address is read

        def fit(step: int) -> Any:
            for path in scored:
                path.unlink()
            logger = dashboard.RunWandbLogger(folder, {"student": "RS4D tiny"})
            logger.log_metrics({"train/loss": 1 / step}, step)
            logger.log_pictures(read_pictures(folder)[0])
            logger.finalize("success")
            (run,) = server.runs.values()
            return run

        run = fit(10)
        assert run.history[0] == {"train/loss": 0.1, "trainer/global_step": 10}
        assert run.history[1]["predictions/a"]["count"] == 3
        assert run.summary["best_mask_AP"] == 0.5
        assert run.about["displayName"] == "RS4D tiny · scratch · seed 0"
        for path, content in kept.items():
            path.write_bytes(content)
        dashboard.log_scores(folder, {}, "test")
        assert len(server.runs) == 1
        assert run.summary["test_mask_AP"] == 0.25
        assert {content for name, content in run.files.items() if name.startswith("media/images")} == {
            path.read_bytes() for path in folder.path.glob("*_pictures/**/*.png")
        }
        run.summary["val_boundary_AP"] = 0.4  # of `distill validate`
        run = fit(20)
        assert [row["train/loss"] for row in run.history if "train/loss" in row] == [0.1, 0.05]
        assert not {"test_mask_AP", "val_boundary_AP"} & run.summary.keys(), "scores of other weights"
        assert run.summary["best_mask_AP"] == 0.5
        wandb.teardown()


@pytest.mark.parametrize(("mode", "key"), [(None, "mykey"), ("online", None), (None, "0123456789" * 4)])
def test_without_a_way_to_the_server_a_run_is_written_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str | None, key: str | None
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    monkeypatch.setenv("HOME", str(tmp_path))  # no login of the user's
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    folder = write_run(tmp_path / "run", scores={"test/mask/AP": 0.25})
    for _ in range(2):  # the second does not wait for the server again
        dashboard.log_scores(folder, {}, "test")
    first, second = written(folder.path)
    assert first.id == second.id
    assert second.summary["test_mask_AP"] == 0.25
    assert second.config["student"] == "RS4D tiny"
    (line,) = [record.getMessage() for record in caplog.records if record.name == dashboard.__name__]
    assert "cannot be used online" in line
    assert "\n" not in line
    assert not list(folder.wandb.glob("run-*"))


def test_what_goes_wrong_with_scores_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_run(tmp_path / "run", scores={"test/mask/AP": 0.25})
    write_pictures(folder, "test", 100, ["a.png"])
    next(folder.pictures("test").glob("*.png")).write_bytes(b"no image")
    dashboard.log_scores(folder, {}, "test")
    (line,) = [record.getMessage() for record in caplog.records if record.name == dashboard.__name__]
    assert line.startswith("these scores are not written for W&B: cannot identify image file")
    wandb.teardown()


def test_a_killed_run_arrives_and_goes_on(distill_recipe: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    fit = ["fit", str(distill_recipe), "--trainer.val_check_interval=20"]
    wandb.teardown()  # so that the process starts a service
    process = get_context("fork").Process(target=fit_in_a_group_of_its_own, args=([*fit, "--trainer.max_steps=99999"],))
    process.start()
    assert process.pid is not None
    try:
        while all(path.stat().st_size < BLOCK for path in folder.wandb.glob("offline-run-*/*.wandb")):
            assert process.is_alive()
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()

    def send(place: Path) -> Any:
        command = [sys.executable, "-m", "wandb", "sync", str(place)]
        done = subprocess.run(command, env=server.environment(tmp_path), cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        (run,) = server.runs.values()
        return run

    (first,) = folder.wandb.glob("offline-run-*")
    begun = rows(list(history_of(folder)))
    with serving() as server:
        killed = rows(send(first).history)
        both = min(len(killed), len(begun))  # either file may have been written last
        assert both > 10
        assert killed[:both] == begun[:both]

        whole = read(next(offline.write_offline(RunRecord.read(folder), tmp_path / "killed").glob("*.wandb")))
        assert rows(whole.history) == begun
        assert whole.config["student"] == "RS4D tiny"
        assert whole.exit_code == 1

        last = begun[-1]["trainer/global_step"] + 2
        assert main([*fit, "--ckpt_path=last", f"--trainer.max_steps={last}"]) == 0
        (second,) = set(folder.wandb.glob("offline-run-*")) - {first}
        # Alone: behind a file whose end is missing, `wandb sync` leaves out all others of the run.
        resumed = rows(send(second).history)
        assert resumed[: len(killed)] == killed
        ended = rows(list(history_of(folder)))
        assert resumed[len(killed) :] == ended[len(killed) - len(resumed) :]

        written_again = send(offline.write_offline(RunRecord.read(folder), tmp_path / "ended"))
    assert rows(written_again.history) == ended
    images = {content for name, content in written_again.files.items() if name.startswith("media/images")}
    assert images == picture_files(folder) != set()
    assert written_again.exit_code == 0
