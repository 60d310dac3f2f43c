"""What W&B is given, read back from the files that it writes without a network."""

import json
import os
from pathlib import Path

import pytest

from distill.cli import main
from distill.report import wandb as dashboard
from distill.runs.folder import RunFolder

wandb = pytest.importorskip("wandb")
written = pytest.importorskip("tests.report.wandb_files").written

ONE_STEP = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dashboard, "_unusable", False)


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
        first, *rest = written(tmp_path / name)
        assert (first.name, first.group, first.job_type, first.exit_code) == (name, "demo", kind, 0)
        assert [row["train/loss"] for row in first.history if "train/loss" in row] == [
            pytest.approx(first.summary["train/loss"])
        ]
        assert len(rest) == (name == "distilled")
        assert {run.id for run in (first, *rest)} == {json.loads((tmp_path / name / "wandb.json").read_text())["id"]}
        facts = json.loads((tmp_path / name / "summary.json").read_text())
        assert first.summary["cost_params"] == facts["params"]
        assert first.config["seed"] == 0
        assert first.config["lr"] == pytest.approx(1e-3 if kind == "fine-tune" else 2e-3)
        assert all(key.replace("_", "").isalpha() for key in first.config if not key.startswith("_"))
        assert not {"params", "macs", "cpu_ms"} & {*first.config, *first.summary}
        ids.add(first.id)
    assert len(ids) == 3
    tested = written(tmp_path / "distilled")[1]
    scores = json.loads((tmp_path / "distilled" / "test.json").read_text())
    assert tested.summary["test_mask_AP"] == pytest.approx(scores["test/mask/AP"])
    assert (tested.job_type, tested.group) == ("fine-tune", "demo")
    assert not tested.history


def test_a_run_keeps_its_id_through_failure_resumption_and_validation(distill_recipe: Path, tmp_path: Path) -> None:
    fit = ["fit", str(distill_recipe), "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    fit += ["--run.checkpoint_every=1"]
    with pytest.raises(ConnectionAbortedError):
        main([*fit, "--trainer.callbacks+=tests.report.wandb_files.Failing"])
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

    assert main([*fit, "--run.overwrite=true"]) == 0
    (fresh,) = written(tmp_path / "run")
    assert fresh.id != failed.id


def test_seeds_are_runs_of_one_group(distill_recipe: Path, tmp_path: Path) -> None:
    steps = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1"]
    assert main(["fit", str(distill_recipe), *steps, "--run.seeds=[0, 3]"]) == 0
    runs = {seed: written(tmp_path / "run" / f"seed{seed}") for seed in (0, 3)}
    assert len({run.id for each in runs.values() for run in each}) == 2
    for seed, (fitted, tested) in runs.items():
        assert (fitted.name, fitted.group, fitted.config["seed"]) == (f"seed{seed}", "run", seed)
        assert fitted.id == tested.id
        assert "val_l1_ratio" in tested.summary


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
    for scores in ({"test/mask/AP": 0.25}, {"val/l1": 0.5}):  # the second does not wait for the server again
        dashboard.log_scores(RunFolder(tmp_path), "group", {"student": "RS4D tiny"}, scores)
    first, second = written(tmp_path)
    assert first.id == second.id
    assert second.summary["test_mask_AP"] == 0.25
    assert second.summary["val_l1"] == 0.5
    assert second.config["student"] == "RS4D tiny"
    (line,) = [record.getMessage() for record in caplog.records if record.name == dashboard.__name__]
    assert "cannot be used online" in line
    assert "\n" not in line
    assert not list((tmp_path / "wandb").glob("run-*"))
