"""Every bad input gets one line that names key or file and the way out, exit code 2, and leaves nothing behind."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from distill.cli import main


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("echo boom",))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], run: Path | None = None) -> str:
    """Runs a command that must be refused, and returns its one line."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    lines = error.strip().splitlines()
    assert len([line for line in lines if line.startswith("distill: error: ")]) == 1
    assert "Traceback" not in error
    if run is not None:
        assert not run.exists(), list(run.rglob("*"))
    return lines[-1]


def test_missing_data_root(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["fit", str(distill_recipe), "--data.root=/nowhere"], capsys, tmp_path / "run")
    assert "/nowhere" in line


@pytest.mark.parametrize("key", ["model.teacher.checkpoint", "model.student.checkpoint"])
def test_missing_checkpoint(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    line = refused(["fit", str(distill_recipe), f"--{key}=/nowhere.pth"], capsys, tmp_path / "run")
    assert "/nowhere.pth" in line


def test_wrong_architecture(
    distill_recipe: Path, vit_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(distill_recipe), f"--model.student.checkpoint={vit_weights}"]
    line = refused(arguments, capsys, tmp_path / "run")
    assert str(vit_weights) in line


def test_pickled_code(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"w": Bomb()}))
    arguments = ["fit", str(distill_recipe), f"--model.teacher.checkpoint={tmp_path / 'evil.pth'}"]
    line = refused(arguments, capsys, tmp_path / "run")
    assert "evil.pth" in line
    assert "refused" in line


def test_resuming_from_pickled_code(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}, "callbacks": Bomb()}, tmp_path / "evil.ckpt")
    line = refused(["fit", str(distill_recipe), f"--ckpt_path={tmp_path / 'evil.ckpt'}"], capsys, tmp_path / "run")
    assert "evil.ckpt" in line


def test_classes_not_in_the_annotations(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["fit", str(finetune_recipe), '--data.classes=["shp"]'], capsys, tmp_path / "run")
    assert "shp" in line
    assert "ship" in line


def test_annotations_without_ground_truth(
    finetune_recipe: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((scenes / "train" / "annotations.json").read_text())
    content["annotations"] = []
    (tmp_path / "empty.json").write_text(json.dumps(content))
    line = refused(
        ["fit", str(finetune_recipe), f"--data.train_annotations={tmp_path / 'empty.json'}"], capsys, tmp_path / "run"
    )
    assert "empty.json" in line


def test_corrupt_image_under_raise(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        (images / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    arguments = ["fit", str(distill_recipe), f"--data.root={images}", "--data.on_error=raise"]
    for workers in ("0", "1"):
        line = refused([*arguments, f"--data.num_workers={workers}", "--run.overwrite=true"], capsys)
        assert ".png" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_gpu_asked_for_and_absent(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["fit", str(distill_recipe), "--trainer.accelerator=gpu"], capsys, tmp_path / "run")
    assert "trainer.accelerator" in line


@pytest.mark.parametrize(("every", "limit"), [("1000", "1.0"), ("2", "1")])
def test_validation_beyond_the_epoch(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], every: str, limit: str
) -> None:
    validation = ["--trainer.check_val_every_n_epoch=1", f"--trainer.val_check_interval={every}"]
    limited = f"--trainer.limit_train_batches={limit}"
    line = refused(["fit", str(distill_recipe), *validation, limited], capsys, tmp_path / "run")
    assert f"trainer.val_check_interval is {every}" in line
    assert "check_val_every_n_epoch null" in line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--trainer.max_stepz=3", "max_steps"),
        ("--model.studnet.variant=tiny", "student"),
        ("--model.student.varient=tiny", "variant"),
        ("--model.corruption.noize=0.1", "noise"),
        ("--model.student=students.RS4E", "RS4D"),
        ("--model.teacher=teachers.Sam", "SAM"),
        ("--model.student.variant=tinny", "tiny"),
        ("--model.target=embeding", "embedding"),
        ("--model.optim.lr=fast", "fast"),
        ("--data.batch_sise=3", "batch_size"),
        ("--run.overwrit=true", "overwrite"),
        ("--modle.target=neck", "model"),
        ("--model=distill.DistilationModule", "DistillationModule"),
    ],
)
def test_misspelt_names_answer_with_the_nearest(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str
) -> None:
    assert expected in refused(["fit", str(distill_recipe), override], capsys, tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (["--model.head.fc_chanels=3"], "did you mean fc_channels"),
        (["--model.head.init_args.roi_sample=3"], "did you mean roi_samples"),
        (["--model.head.class_names=[ship]"], "valid names are neck_channels"),  # the framework's to supply
        (["--model.head.overides", "null"], "did you mean overrides"),
        (["--model.head.fc_channels=wide"], "model.head.fc_channels: Expected a int. Got value: wide; see"),
        (["--model.student.chekpoint=null"], "did you mean checkpoint"),
    ],
)
def test_misspelt_keys_of_a_head_answer_with_the_heads(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: list[str], expected: str
) -> None:
    assert expected in refused(["fit", str(finetune_recipe), *override], capsys, tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("variant: tiny", "varient: tiny", "variant"),
        ("students.RS4D", "students.RS4E", "RS4D"),
        ("max_steps", "max_stepz", "max_steps"),
        ("optim:", "optmi:", "optim"),
        ("model:", "modle:", "model"),
        ("max_steps: 8", "max_steps: many", "max_steps"),
    ],
)
def test_misspelt_names_in_the_file(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    text = distill_recipe.read_text()
    assert old in text
    distill_recipe.write_text(text.replace(old, new))
    assert expected in refused(["fit", str(distill_recipe)], capsys, tmp_path / "run")


def test_a_recipe_that_is_no_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("model: [\n")
    assert "bad.yaml" in refused(["fit", str(tmp_path / "bad.yaml")], capsys)


def test_unknown_commands_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean fit" in refused(["fti"], capsys)
    assert "rs4d_small" in refused(["fit", "recipes/rs4d_smal.yaml"], capsys)
    assert "needs a recipe" in refused(["fit"], capsys)
    assert "rs4d_small" in refused(["recipes", "show", "rs4d_smal"], capsys)


def test_a_second_fit_does_not_mix_runs(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    assert main(["fit", str(distill_recipe), *fast]) == 0
    assert "already holds a run" in refused(["fit", str(distill_recipe), *fast], capsys)
    assert main(["fit", str(distill_recipe), *fast, "--run.overwrite=true"]) == 0


def test_testing_before_fitting(finetune_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "distill fit" in refused(["test", str(finetune_recipe)], capsys)


def test_a_config_of_a_distillation_asks_for_no_weights(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "config.py"
    words = ["mmdet-config", str(distill_recipe), "--output", str(output), "--model.teacher.checkpoint=/nowhere.pth"]
    assert "trains no head" in refused(words, capsys, output)
