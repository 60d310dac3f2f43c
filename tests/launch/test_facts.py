"""The facts about a run that comparisons and dashboards read: what it began with, what it took, what was scored."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.cli import main
from distill.report.run_record import RunRecord
from distill.runs.folder import RunFolder

TIMER = "pytorch_lightning.callbacks.Timer"


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_distillation_and_the_fine_tuning_of_its_student(
    distill_recipe: Path, finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distilled, tuned = tmp_path / "distilled", tmp_path / "tuned"
    timed = [f"--trainer.callbacks+={TIMER}", "--trainer.callbacks.interval=step"]
    steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert main(["fit", str(distill_recipe), *steps, *timed, f"--run.dir={distilled}"]) == 0
    summary = read(distilled / "summary.json")
    said = {"task": "distillation", "init": "scratch", "variant": "tiny", "lr": 2e-3, "batch_size": 2, "seed": 0}
    assert said.items() <= summary.items()
    # Two blocks of width 192 and MLP ratio 4 on 8 x 8 tokens and the class token, and the patch embedding.
    tokens, width = 8 * 8 + 1, 192
    assert summary["teacher_macs"] == 64 * 3 * 64 * width + 2 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    assert summary["teacher_params"] > summary["params"]
    assert summary["memory_mb"] > 4 * summary["params"] / 1e6
    assert summary["cpu_ms"] > 0
    assert ("gpu_ms" in summary) == torch.cuda.is_available()
    assert summary["train_hours"] > 0
    assert main(["validate", str(distilled)]) == 0
    facts = read(distilled / "validate_facts.json")
    assert (facts["image_set"], facts["overrides"]) == (summary["val_image_set"], {})

    weights = [f"--model.student.checkpoint={distilled}/student.safetensors", "--run.loggers=[tensorboard]"]
    assert main(["fit", str(finetune_recipe), *steps, *weights, f"--run.dir={tuned}"]) == 0
    summary = read(tuned / "summary.json")
    said = {"task": "instances", "init": "distilled", "init_teacher": "ViT vit_tiny_patch16_224", "lr": 1e-3}
    file = Path(
        yaml.safe_load(distill_recipe.read_text())["model"]["init_args"]["teacher"]["init_args"]["checkpoint"]
    ).name
    said |= {"init_teacher_weights": file}
    assert said.items() <= summary.items()
    card = (tuned / "card.md").read_text()
    assert (
        f"| teacher of the initial weights | ViT vit_tiny_patch16_224 |\n| weights of that teacher | {file} |" in card
    )
    assert not {"teacher_params", "teacher_macs", "teacher", "gsd"} & summary.keys()
    assert summary["image_side"] == summary["largest_side"] == 64
    assert 0 < summary["object_side"] <= 64
    record = RunRecord.read(RunFolder(tuned))
    assert (record.init, record.teacher) == ("distilled", "ViT vit_tiny_patch16_224")
    capsys.readouterr()
    other = ["--model.max_detections=50", "--data.batch_size=1", "--trainer.limit_test_batches=3"]
    assert main(["test", str(tuned), *other]) == 0
    assert "3 images, image set " in (printed := capsys.readouterr().out)
    assert "no test files: scored on the validation images" in printed
    assert "scored with model.max_detections 50" in printed
    fewer = read(tuned / "test_facts.json")
    assert fewer["overrides"] == {"model.init_args.max_detections": 50}
    assert main(["test", str(tuned)]) == 0
    facts = read(tuned / "test_facts.json")
    assert (facts["image_set"], facts["overrides"]) == (summary["val_image_set"], {})
    assert fewer["image_set"] != facts["image_set"]

    events = EventAccumulator(str(tuned / "tensorboard")).Reload()
    written = rows(tuned)
    for name in written[0].keys() - {"step"}:
        expected = [(int(row["step"]), float(row[name])) for row in written if row[name]]
        found = events.Scalars(name)
        assert [event.step for event in found] == [step for step, _ in expected], name
        assert [event.value for event in found] == pytest.approx([value for _, value in expected], nan_ok=True), name
    (score,) = events.Scalars("test/mask/AP")[-1:]
    assert (score.step, score.value) == (2, pytest.approx(read(tuned / "test.json")["test/mask/AP"]))


def test_a_resumed_run_continues_its_training_time(distill_recipe: Path, tmp_path: Path) -> None:
    """Of two hours, as far as its checkpoint knows."""
    run = tmp_path / "cut"
    arguments = ["fit", str(distill_recipe), f"--run.dir={run}"]
    cut = ["--trainer.callbacks+=tests.launch.resuming.PowerCut", "--trainer.callbacks.step=6"]
    with pytest.raises(ConnectionAbortedError):
        main([*arguments, *cut])
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["callbacks"]["Timer"]["time_elapsed"]["train"] > 0
    content["callbacks"]["Timer"]["time_elapsed"]["train"] = 7200.0
    torch.save(content, last)
    started = read(run / "environment.json")["started"]
    (run / "environment.json").write_text(json.dumps(read(run / "environment.json") | {"started": "2020-01-01"}))
    assert started > "2020-01-01"
    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert read(run / "environment.json")["started"] == "2020-01-01"
    hours = {int(row["step"]): float(row["hours"]) for row in rows(run)}
    assert list(hours) == sorted(hours) == list(range(8))
    assert all((hour >= 2) == (step >= 4) for step, hour in hours.items())
    assert read(run / "summary.json")["train_hours"] >= max(hours.values())
    assert any(row["hours"] for row in rows(run) if row["val/l1"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("[tensorbord]", "unknown dashboard in run.loggers 'tensorbord': did you mean tensorboard"),
        ("[tensorboard]", "run.loggers names tensorboard, but tensorboard cannot be imported; pip install"),
    ],
)
def test_a_dashboard_that_is_not_there_is_refused_at_once(
    distill_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: str,
    said: str,
) -> None:
    monkeypatch.setattr(
        "distill.launch.loggers.find_spec", lambda name: None if name == "tensorboard" else find_spec(name)
    )
    assert main(["fit", str(distill_recipe), f"--run.loggers={names}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
