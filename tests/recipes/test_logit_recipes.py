"""Teacher, then student: the recipes of soft targets in the order and by the commands that they name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli import main
from distill.recipe.compose import compose
from tests.launch.resuming import cut_and_resume
from tests.recipes.test_landcover_recipes import SMALL

pytestmark = pytest.mark.xdist_group("teacher of land cover")  # trained once
TAUGHT, TEACHER, ALONE = (f"landcover/{name}" for name in ("lale_s1_from_cnn_cpu", "resnet50_cpu", "lale_s1_cpu"))
NARROW = "resnet10t"  # in the place of ResNet-50


def read(name: str) -> dict[str, Any]:
    return compose([name]).content


@pytest.fixture(scope="module")
def teacher(landcover: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the teacher's recipe, with a smaller net."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    words = [f"--data.root={landcover}", f"--run.dir={run}", f"--model.student.name={NARROW}", *SMALL]
    assert main(["fit", TEACHER, *words]) == 0
    return run


@pytest.fixture
def taught(teacher: Path, landcover: Path, tmp_path: Path) -> list[str]:
    """The words of the student's recipe, with a copy of the teacher's checkpoint that a test may remove."""
    shutil.copy(teacher / "checkpoints" / "last.ckpt", tmp_path / "teacher.ckpt")
    given = [f"--model.teacher.checkpoint={tmp_path / 'teacher.ckpt'}", f"--model.teacher.backbone.name={NARROW}"]
    return [TAUGHT, f"--data.root={landcover}", f"--run.dir={tmp_path / 'run'}", *SMALL, *given]


def test_a_run_with_a_teacher_is_tested_without_it(
    taught: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *taught, "--trainer.log_every_n_steps=1"]) == 0
    assert f"distill test {tmp_path / 'run'}" in capsys.readouterr().out.replace("\n", "")
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["teacher"] == f"Segmenter TimmStudent {NARROW} under LALEDecoder"
    assert "Segmenter" in (run / "card.md").read_text()
    assert "train/soft_targets" in (run / "metrics.csv").read_text().splitlines()[0]
    assert summary["train/soft_targets"] > 0
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student", "head"}
    assert content["teacher_digest"] == summary["teacher_digest"]

    (tmp_path / "teacher.ckpt").unlink()
    assert main(["test", str(run), "--trainer.limit_test_batches=1"]) == 0
    assert (run / "test_classes.csv").is_file()
    assert main(["fit", str(run), "--ckpt_path=last", "--trainer.max_steps=3"]) == 2
    assert "teacher.ckpt; resuming needs the teacher" in capsys.readouterr().err


def test_an_interrupted_run_ends_with_the_same_weights(taught: list[str], tmp_path: Path) -> None:
    words = [*taught[1:], "--trainer.max_steps=8", "--run.checkpoint_every=4"]
    assert main(["fit", TAUGHT, *words]) == 0
    straight = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    cut_and_resume(Path(TAUGHT), tmp_path / "cut", *[word for word in words if "run.dir" not in word])
    resumed = torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name


def test_null_takes_the_teacher_away(taught: list[str], tmp_path: Path) -> None:
    """The run is then that of the recipe without one, weight for weight; so the teacher changes no random number."""
    alone = [word for word in taught if "model.teacher" not in word]
    assert main(["fit", *alone, "--model.teacher=null"]) == 0
    assert "teacher: null" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert "teacher" not in json.loads((tmp_path / "run" / "summary.json").read_text())
    assert main(["fit", ALONE, *alone[1:], f"--run.dir={tmp_path / 'alone'}"]) == 0
    weightless = [*taught, "--model.soft_targets.weight=0", f"--run.dir={tmp_path / 'weightless'}"]
    assert main(["fit", *weightless]) == 0
    states = [
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("run", "alone", "weightless")
    ]
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor), name
        assert torch.equal(states[2][name], tensor), name


def test_learns_from_the_teacher_alone_and_over_seeds(taught: list[str], tmp_path: Path) -> None:
    assert main(["fit", *taught, "--model.loss.terms={}", "--run.seeds=[0, 1]", "--trainer.limit_test_batches=1"]) == 0
    scores = json.loads((tmp_path / "run" / "test_seeds.json").read_text())
    assert scores["test/mIoU"]["runs"] == 2


def test_a_teacher_of_other_classes_is_refused(
    taught: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(tmp_path / "teacher.ckpt", weights_only=True)
    content["class_names"] = content["class_names"][::-1]
    torch.save(content, tmp_path / "teacher.ckpt")
    assert main(["fit", *taught]) == 2
    _, error = capsys.readouterr().err.splitlines()  # the first says what the name is short for
    assert "model.teacher was trained for classes" in error
    assert not (tmp_path / "run").exists()


def test_the_recipes_belong_together() -> None:
    """The teacher is what the teacher's recipe trains."""
    student, teacher = read(TAUGHT), read(TEACHER)
    given = student["model"]["init_args"].pop("teacher")["init_args"]
    built = teacher["model"]["init_args"]
    assert given["backbone"] == {**built["student"], "init_args": given["backbone"]["init_args"]}
    assert given["backbone"]["init_args"].items() <= built["student"]["init_args"].items()
    assert given["head"]["class_path"] == built["head"]["class_path"]
    assert given["checkpoint"] == f"runs/{TEACHER.partition('/')[2]}/checkpoints/last.ckpt"
    for key in ("class_path", "init_args"):
        assert student["data"][key] == teacher["data"][key]
