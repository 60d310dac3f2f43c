"""What a run and the demo print at their end runs as printed, for every student and every task."""

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

from distill.cli import main
from distill.cli.predict import parser as predict_parser
from distill.launch.demo import next_commands
from distill.launch.fit import Fitted
from distill.launch.next_steps import fine_tuning_command, next_command, print_next_steps
from distill.launch.parse import ParsedRecipe
from distill.recipe.command_line import split
from distill.runs.folder import RunFolder
from distill.weights import load_student, write_weights
from students import LALE, RS4D, EfficientViT, EfficientViTSAM, TimmStudent

VIT = {"img_size": 64, "patch_size": 8, "depth": 2, "dynamic_img_size": False}  # a ViT that takes images of 64 px only
STUDENTS = {
    "RS4D": lambda: RS4D("tiny", image_size=64, patch_size=8),
    "LALE": lambda: LALE("S1"),
    "EfficientViT": lambda: EfficientViT("b0"),
    "EfficientViTSAM": lambda: EfficientViTSAM("l0", half_resolution=True),
    "TimmStudent": lambda: TimmStudent("vit_tiny_patch16_224", out_indices=[0, 1], options=VIT),
}


def parsed(command: str, **stands_for: Path) -> ParsedRecipe:
    """What a printed command parses to, with the user's own paths put in."""
    for placeholder, path in stands_for.items():
        command = command.replace(placeholder, str(path))
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("distill", "fit")
    recipe, overrides = split(words)
    assert recipe is not None
    return ParsedRecipe("fit", recipe, overrides)


@pytest.fixture(scope="module")
def labelled(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled data set in the layout that the recipes read."""
    root = tmp_path_factory.mktemp("data")
    (root / "annotations").mkdir()
    (root / "images").symlink_to(scenes / "train" / "images")
    for part in ("train", "val"):
        shutil.copy(scenes / "train" / "annotations.json", root / "annotations" / f"{part}.json")
    return root


def files_of(labelled: Path) -> dict[str, str]:
    """Keys of the data set's files."""
    return {
        f"{split}_{key}": str(labelled / path)
        for split in ("train", "val")
        for key, path in (("images", "images"), ("annotations", f"annotations/{split}.json"))
    }


def written(folder: Path, student: nn.Module) -> Path:
    """A run folder that holds the student, as a distillation leaves it."""
    metadata = {"class": f"students.{type(student).__name__}", "init_args": student.init_args}
    write_weights(student, folder / "student.safetensors", metadata)
    return folder


@pytest.mark.parametrize("extra", [True, False], ids=["mmdet", "no extra"])
@pytest.mark.parametrize("name", STUDENTS)
def test_what_follows_a_distillation(
    name: str, extra: bool, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if extra:
        pytest.importorskip("mmdet")
    monkeypatch.setattr("distill.launch.next_steps.find_spec", lambda name: extra or None)
    student = STUDENTS[name]()
    folder = written(tmp_path / "a run", student)
    command = next_command(RunFolder(folder), "distillation", student, 64)
    assert "finetune/mask_rcnn data/prepared" in command
    built = parsed(command, YOUR_DATA=labelled).build()
    built.task.build(built.data.class_names)
    assert type(built.task.student) is type(student)
    assert type(built.task.head).__name__ == ("MaskRCNN" if extra else "DenseMasks")
    expected = student.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in built.task.student.state_dict().items())
    size = built.data.image_size
    with torch.no_grad():
        maps = built.task.eval().features(torch.zeros(1, 3, size, size))
    assert [m.shape[1] for m in maps] == list(student.feature_info.channels())
    # The same on COCO files that a recipe of the user names.
    coco = {"class_path": "distill.data.CocoInstances", "init_args": files_of(labelled)}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"data": coco, "trainer": {"max_steps": 3}}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    own = parsed(fine_tuning_command(RunFolder(folder), student, 64, "mine.yaml")).build()
    assert (own.data.image_size, own.trainer["max_steps"]) == (64, 3)
    assert own.data.dataset("train").images == built.data.dataset("train").images
    assert own.task.student.state_dict().keys() == student.state_dict().keys()
    # The same key in a recipe of land cover.
    words = f"--data.root {labelled} --model.student {shlex.quote(str(folder))}"
    pixels = parsed(f"distill fit recipes/landcover/lale_s1_cpu.yaml {words}").build().task
    pixels.build(["land", "water"])
    assert type(pixels.student) is type(student)


def test_what_follows_the_training_of_a_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, student in STUDENTS.items():
        folder = tmp_path / f"a run of {name}"
        assert next_command(RunFolder(folder), "instances", student(), 64) == f"distill test '{folder}'"
    student = STUDENTS["LALE"]()
    run = RunFolder(written(tmp_path / "run", student))
    task, data = SimpleNamespace(name="distillation", student=student), SimpleNamespace(skipped=[], image_size=512)
    print_next_steps(Fitted(run, task, data, 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert f"  {next_command(run, 'distillation', student, 512)}" in lines
    assert f"  {fine_tuning_command(run, student, 512, 'mine.yaml')}" in lines
    assert "RS4D" not in " ".join(lines)
    assert not any("predict" in line for line in lines)
    monkeypatch.setattr("distill.launch.next_steps.find_spec", lambda name: None)
    print_next_steps(Fitted(run, task, data, 0.0))
    said = capsys.readouterr().out
    assert said.count(" --model.head heads.DenseMasks ") == 2
    assert "Mask R-CNN needs pip install 'distill-rs[mmdet]'; then leave out --model.head heads.DenseMasks." in said
    print_next_steps(Fitted(run, SimpleNamespace(name="segmentation", student=student), data, 0.0))
    assert f"  distill predict {run} YOUR_IMAGES --out predicted" in capsys.readouterr().out.splitlines()


def test_arguments_of_the_recipe_that_the_file_does_not_hold_stay(tmp_path: Path, labelled: Path) -> None:
    weights = written(tmp_path, STUDENTS["RS4D"]()) / "student.safetensors"
    command = "distill fit finetune/nwpu_mask_rcnn_cpu --data.root DATA --model.student.frozen_layers 2 --model.student"
    recipe = parsed(f"{command}={weights} --model.student.checkpointing true", DATA=labelled)
    student = recipe.config.model.init_args.student.init_args
    assert (student.frozen_layers, student.checkpointing) == (2, True)
    assert (student.image_size, student.patch_size, student.checkpoint) == (64, 8, str(weights))


def test_a_scratch_baseline_has_the_architecture_of_the_file(tmp_path: Path, labelled: Path) -> None:
    """The two commands of docs/own-labels.md, on a CPU: their recipes differ in the weights alone."""
    weights = written(tmp_path, RS4D("tiny", image_size=64, patch_size=16)) / "student.safetensors"
    distilled = f"distill fit finetune/mask_rcnn data/prepared size/cpu --data.root DATA --model.student {weights}"
    scratch = f"{distilled} --model.student.checkpoint null"
    one, other = (parsed(command, DATA=labelled).config.model.init_args for command in (distilled, scratch))
    assert (one.student.init_args.pop("checkpoint"), other.student.init_args.pop("checkpoint")) == (str(weights), None)
    assert one == other
    assert one.student.init_args.patch_size == 16, "size/cpu has 8"


def test_a_file_that_holds_no_student_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_weights(nn.Linear(1, 1), tmp_path / "linear.safetensors", {"class": "torch.nn.Linear", "init_args": {}})
    (tmp_path / "text.safetensors").write_text("weights", encoding="utf-8")
    for name, expected in {
        "linear": "does not say which student it holds; give the class, and the file as --model.student.checkpoint",
        "text": "cannot be read",
        "none": "there is no file",
    }.items():
        assert main(["fit", "rs4d_small", "--model.student", str(tmp_path / f"{name}.safetensors")]) == 2
        assert expected in capsys.readouterr().err


def test_what_follows_the_demo(
    tmp_path: Path, scenes: Path, vit_weights: Path, finetune_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = tmp_path / "the demo"
    shutil.copytree(vit_weights.parent, demo / "teacher")
    (demo / "distilled").mkdir()
    shutil.copy(finetune_recipe, demo / "distilled" / "recipe.yaml")
    test, predict, longer, again, mine, sam = (command for _, command in next_commands(demo))
    assert shlex.split(test) == ["distill", "test", str(demo / "distilled")]
    found = predict_parser().parse_args(shlex.split(predict)[2:])
    assert (found.run, found.sources) == (str(demo / "distilled"), [str(demo / "data" / "test" / "images")])
    assert found.out == str(demo / "predicted")
    assert parsed(longer).config.trainer.max_steps == 600
    assert parsed(longer).config.run.dir == str(demo / "longer")
    assert shlex.split(again) == ["distill", "compare", f"{demo}/*", "--out", str(demo / "compare"), "--measure"]
    mine += " --model.teacher.name vit_tiny_patch16_224"  # what the weights of the tests are of
    teacher = parsed(mine, YOUR_IMAGES=scenes / "train" / "images").build().task.teacher
    expected = load_student(vit_weights).state_dict()
    assert all(torch.equal(t, expected[f"model.model.{key}"]) for key, t in teacher.encoder.named_parameters())
    assert "--model.teacher.checkpoint sam_vit_b_01ec64.pth" in sam
    recipe, _ = split(shlex.split(sam)[2:])
    assert recipe is not None
    assert recipe.content["model"]["init_args"]["teacher"]["class_path"]
