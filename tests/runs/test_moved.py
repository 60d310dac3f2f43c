"""A run is scored and resumed from any folder, and without the files that its weights began from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace

from distill.cli import main
from distill.errors import UserError
from distill.launch.initial_weights import require_teachers, without_initial_weights
from distill.recipe.compose import compose
from distill.runs.folder import RunFolder
from distill.runs.moved import moved_paths, started_in, words_for
from distill.runs.resume_checks import require_same_recipe
from distill.weights import write_weights
from students import RS4D

DENSE = "--model.head=heads.DenseMasks"  # the fastest
FAST = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.logger=false", "--run.dir=runs/mine"]


@pytest.fixture
def project(tmp_path: Path, scenes: Path, vit_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project with data and weights, which recipes name by relative paths."""
    folder = tmp_path / "project"
    shutil.copytree(scenes, folder / "data")
    (folder / "weights").mkdir()
    shutil.copy(vit_weights, folder / "weights" / "teacher.safetensors")
    student = RS4D("tiny", image_size=64, patch_size=8)
    metadata = {"class": "students.RS4D", "init_args": student.init_args}
    write_weights(student, folder / "weights" / "student.safetensors", metadata)
    monkeypatch.chdir(folder)
    return folder


def relative(recipe: Path, scenes: Path, vit_weights: Path) -> str:
    """The recipe with paths from the project, as the name of a file there."""
    text = recipe.read_text(encoding="utf-8").replace(str(scenes), "data")
    Path("mine.yaml").write_text(text.replace(str(vit_weights), "weights/teacher.safetensors"), encoding="utf-8")
    return "mine.yaml"


def stored(run: Path) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    recipe: dict[str, dict[str, dict[str, dict[str, str]]]] = yaml.safe_load(
        (run / "recipe.yaml").read_text(encoding="utf-8")
    )
    return recipe


def test_a_fine_tuned_run_needs_none_of_its_first_weights(
    project: Path,
    finetune_recipe: Path,
    scenes: Path,
    vit_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, run = relative(finetune_recipe, scenes, vit_weights), project / "runs" / "mine"
    assert main(["fit", recipe, *FAST, "--model.student", "weights/student.safetensors", DENSE]) == 0
    assert stored(run)["model"]["init_args"]["student"]["init_args"]["checkpoint"] == "weights/student.safetensors"
    assert json.loads((run / "environment.json").read_text(encoding="utf-8"))["started_in"] == str(project)
    shutil.rmtree("weights")
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["test", str(run)]) == 0
    assert main(["fit", str(run), "--ckpt_path=last", "--trainer.max_steps=2"]) == 0
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == 2
    # The resumed run's recipe says what it began from, now from this folder.
    student = stored(run)["model"]["init_args"]["student"]["init_args"]
    assert student["checkpoint"] == str(project / "weights" / "student.safetensors")
    shutil.move(project / "data", project / "data, moved")
    capsys.readouterr()
    assert main(["test", str(run)]) == 2
    assert str(project / "data" / "test") in capsys.readouterr().err
    assert not any(elsewhere.iterdir())


def test_a_distillation_needs_its_teacher_and_says_so(
    project: Path,
    distill_recipe: Path,
    scenes: Path,
    vit_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, run = relative(distill_recipe, scenes, vit_weights), project / "runs" / "mine"
    assert main(["fit", recipe, *FAST, "--model.student.checkpoint=weights/student.safetensors"]) == 0
    (project / "weights" / "student.safetensors").unlink()
    monkeypatch.chdir(project.parent)
    assert main(["validate", str(run)]) == 0
    (project / "weights").rename("weights, moved")
    for words, purpose in (
        (["validate", str(run)], "scoring a distillation"),
        (["fit", str(run), "--ckpt_path=last", "--trainer.max_steps=2"], "resuming"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        line = capsys.readouterr().err
        gone = project / "weights" / "teacher.safetensors"
        assert f"model.teacher.checkpoint: there is no file {gone}; {purpose} needs the teacher" in line
    assert main([*words, "--model.teacher.checkpoint=weights, moved/teacher.safetensors"]) == 0


def test_data_that_is_gone_is_named_with_the_folder_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    recipe = compose(["landcover/lale_s1_cpu"]).content
    recipe["data"]["init_args"]["root"] = "images, mine"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (run / "environment.json").write_text(json.dumps({"started_in": "/nowhere/project"}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(run)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "/nowhere/project/images, mine" in line
    assert "images, mine is relative to the folder that the run was started in, and is not here either" in line
    assert "pass --data.root PATH" in line
    assert not (run / "checkpoints").exists()


def test_where_a_run_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "project" / "runs" / "old"
    run.mkdir(parents=True)
    content = {
        "data": {"init_args": {"root": "images", "val_root": str(tmp_path / "absolute"), "images": "below_root"}},
        "model": {"init_args": {"head": {"init_args": {"overrides": {"a.b.checkpoint": "c"}}}}},
        "run": {"dir": "runs/old"},
    }
    (run / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    # A run of an earlier version does not say it; its run.dir does.
    assert started_in(RunFolder(run)) == [tmp_path / "project"]
    monkeypatch.chdir(tmp_path)
    [moved] = moved_paths(run / "recipe.yaml")
    assert (moved.key, moved.given, moved.path) == ("data.init_args.root", "images", tmp_path / "project" / "images")
    (tmp_path / "images").mkdir()  # moved here with the run
    assert moved_paths(run / "recipe.yaml") == []
    (run / "environment.json").write_text(json.dumps({"started_in": str(tmp_path / "other")}), encoding="utf-8")
    (tmp_path / "other" / "images").mkdir(parents=True)
    assert [one.path for one in moved_paths(run / "recipe.yaml")] == [tmp_path / "other" / "images"]
    monkeypatch.chdir(tmp_path / "other")
    assert moved_paths(run / "recipe.yaml") == []
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert moved_paths(tmp_path / "mine.yaml") == []  # no run's


def test_paths_in_lists_move_with_their_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of `model.targets` and `model.probes`: the command line sets lists as a whole."""

    def content(checkpoint: str, feature: str = "embedding") -> dict[str, Any]:
        teacher = {"class_path": "teachers.ViT", "init_args": {"checkpoint": checkpoint}}
        targets = [{"feature": "neck", "teacher": None}, {"feature": feature, "teacher": teacher}]
        return {"model": {"init_args": {"targets": targets}}, "run": {"dir": "runs/mine"}}

    run = tmp_path / "project" / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(content("weights/teacher.pth")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    moved, there = moved_paths(run / "recipe.yaml"), str(tmp_path / "project" / "weights" / "teacher.pth")
    assert [one.key for one in moved] == ["model.init_args.targets.1.teacher.init_args.checkpoint"]
    [word] = words_for(moved)
    targets = content(there)["model"]["init_args"]["targets"]
    assert json.loads(word.removeprefix("--config=")) == {"model.init_args.targets": targets}
    require_same_recipe(RunFolder(run), yaml.safe_dump(content(there)))
    with pytest.raises(UserError, match=r"these differ: model\.targets;"):
        require_same_recipe(RunFolder(run), yaml.safe_dump(content(there, "block_0")))


def test_the_teachers_of_further_targets_are_asked_for(tmp_path: Path) -> None:
    gone = Namespace(class_path="teachers.ViT", init_args=Namespace(checkpoint=str(tmp_path / "gone.pth")))
    targets = [Namespace(feature="neck", teacher=None), Namespace(feature="embedding", teacher=gone)]
    model = Namespace(class_path="distill.DistillationModule", init_args=Namespace(targets=targets))
    assert without_initial_weights(model) == model
    for own in (None, gone):
        model.init_args.teacher = own
        key = r"model\.teacher" if own else r"model\.targets\[1\]\.teacher"
        with pytest.raises(UserError, match=rf"{key}\.checkpoint: there is no file .*gone\.pth; resuming needs"):
            require_teachers(model, "resuming")
    model.init_args.cache = Namespace(root="targets")  # which stands in for the main teacher alone
    with pytest.raises(UserError, match=r"model\.targets\[1\]"):
        require_teachers(model, "resuming")


def test_only_files_that_the_checkpoint_replaces_are_forgotten() -> None:
    student = Namespace(class_path="students.RS4D", init_args=Namespace(checkpoint="a.pth", checkpointing=True))
    head = Namespace(init_args=Namespace(decoder_checkpoint="b.pth", overrides={"mask.decoder_checkpoint": "c.pth"}))
    teacher = Namespace(init_args=Namespace(checkpoint="d.pth"))
    given = Namespace(init_args=Namespace(student=student, head=head, teacher=teacher))
    built = without_initial_weights(given).init_args
    assert built.student.init_args == Namespace(checkpoint=None, checkpointing=True)
    assert built.head.init_args == Namespace(decoder_checkpoint=None, overrides={"mask.decoder_checkpoint": None})
    assert built.teacher.init_args.checkpoint == "d.pth"
    assert given.init_args.student.init_args.checkpoint == "a.pth"
    assert given.init_args.head.init_args.overrides == {"mask.decoder_checkpoint": "c.pth"}
