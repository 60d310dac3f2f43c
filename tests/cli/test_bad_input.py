"""Every bad input gets one line that names key or file and the way out, exit code 2, and leaves nothing behind."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

import distill
from distill.cli import main
from distill.errors import UserError
from distill.recipe.compose import compose
from distill.recipe.signatures import parameters


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
        (["--model.head.fc_channels=wide"], "model.head.fc_channels: given wide, expected a whole number; see"),
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


@pytest.mark.parametrize("key", ["trainer.max_steps", "trainer.val_check_interval", "run.checkpoint_every"])
def test_counts_of_nothing(distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    assert f"{key} is 0" in refused(["fit", str(distill_recipe), f"--{key}=0"], capsys, tmp_path / "run")


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("finetune/nwpu_mask_rcnn_cpu", "instances"),
        ("finetune/ssdd_cascade_cpu", "instances"),
        ("finetune/whu_prompt_cpu", "instances"),
        ("landcover/resnet50_cpu", "pixels"),
        ("landcover/aras400k_lale", "pixels"),
    ],
)
def test_keys_that_a_data_set_hands_on_are_valid_names(
    recipe: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["fit", recipe, "--data.batchsize", "3"], capsys)
    assert "unknown key in data 'batchsize': did you mean batch_size" in line
    names = parameters(compose([recipe]).content["data"]["class_path"])
    assert names is not None
    assert {"root", "batch_size", "num_workers"} <= set(names)
    assert not {"kwargs", "train_images", "train_annotations"} & set(names)
    assert ("filter_empty" in names) == (kind == "instances")


def test_settings_that_a_data_set_hands_on_answer_with_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["fit", "finetune/nwpu_mask_rcnn_cpu", "--data.augmentation.look", "3"], capsys)
    assert "unknown key in data.augmentation 'look': did you mean looks?" in line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--data.batch_size=some", "data.batch_size: given some, expected a whole number;"),
        ("--data.scale_jitter=wide", "data.scale_jitter: given wide, expected a list;"),
        ("--data.scale_jitter=[a, b]", "data.scale_jitter: given a, expected a number;"),
        ("--data.classes=ship", "data.classes: given ship, expected a list or null;"),
        ("--data.flip=5", "data.flip: given 5, expected true or false;"),
        ("--model.optim=fast", "model.optim: given fast, expected a class path, a mapping or null;"),
        ("--model.optim=[1]", "model.optim: given [1], expected a class path, a mapping or null;"),
        ("--model.optim.betas=3", "model.optim.betas: given 3, expected a list;"),
        ("--model.student=[1]", "model.student: given [1], expected a class path or a mapping;"),
        ("--model.student.checkpoint=[1]", "model.student.checkpoint: given [1], expected text or null;"),
        ("--model.head.overrides=3", "model.head.overrides: given 3, expected a mapping or null;"),
        ("--run.seeds=two", "run.seeds: given two, expected a list or null;"),
        ("--run.seeds=[two]", "run.seeds: given two, expected a whole number;"),
        ("--seed_everything=x", "seed_everything: given x, expected true, false or a whole number;"),
        ("--seed_everything=false", "seed_everything is false; give a number, or true for a random one"),
        ("--trainer=5", "trainer: given '5', expected a mapping;"),
    ],
)
def test_values_of_another_type(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str
) -> None:
    assert expected in refused(["fit", str(finetune_recipe), override], capsys, tmp_path / "run")


def test_one_of_several_words_lists_them_all(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["fit", str(finetune_recipe), "--trainer.precision", "7"], capsys, tmp_path / "run")
    assert "trainer.precision: given 7, expected 64, 32, 16, " in line
    assert " bf16-mixed, " in line
    assert " or null;" in line
    assert "Literal" not in line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("--data.batch_size=0", "error: data: batch_size is 0;"),
        ("--data.image_size=0", "error: data: image_size is 0;"),
        ("--data.num_workers=-1", "error: data: num_workers is -1;"),
        ("--data.val_fraction=1.5", "error: data: val_fraction is 1.5;"),
        ("--data.augmentation={looks: 0.0}", "error: data.augmentation: augmentation.looks is 0.0;"),
        ("--model.student.variant=large_", "error: model.student: unknown RS4D variant 'large_'"),
        ("--model.student.checkpoint=/nowhere.pth", "error: model.student: checkpoint '/nowhere.pth'"),
        ("--model.optim.layer_decay=2", "error: model.optim.layer_decay is 2.0;"),  # which names its key itself
    ],
)
def test_what_a_constructor_refuses_comes_with_its_place_in_the_recipe(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, expected: str
) -> None:
    assert expected in refused(["fit", str(finetune_recipe), override], capsys, tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty; a recipe is a mapping with model, data and trainer"),
        ("# a comment alone\n", "is empty; a recipe is a mapping"),
        ("- model\n- data\n", "holds a list; a recipe is a mapping"),
        ("model", "holds text; a recipe is a mapping"),
        (b"\x93\x00weights", "cannot be read as a recipe"),
    ],
)
def test_a_recipe_that_is_no_mapping(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, expected: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert f"{path} {expected}" in refused(["fit", str(path)], capsys)


def test_words_that_are_no_recipe(finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("another.yaml", "5"):
        line = refused(["fit", str(finetune_recipe), word], capsys, tmp_path / "run")
        assert f"there is no file {word} and no shipped recipe of that name; " in line
    words = ["fit", str(finetune_recipe), "--trainer.max_steps=3", "rs4d_small"]
    assert "'rs4d_small' follows no --key" in refused(words, capsys, tmp_path / "run")


def test_weights_that_are_text(finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("# Weights")
    words = ["fit", str(finetune_recipe), "--model.student.checkpoint", str(tmp_path / "README.md")]
    line = refused(words, capsys, tmp_path / "run")
    assert "model.student: " in line
    assert "README.md' is no checkpoint" in line


def test_places_that_cannot_be_written(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    config = ["mmdet-config", str(finetune_recipe), "--output"]
    for command in (["recipes", "copy", "rs4d_small"], config):
        for place in ("/proc/none/a.py", str(tmp_path / "file" / "a.py")):
            assert f"{place} cannot be written" in refused([*command, place], capsys)


def test_a_recipe_that_is_no_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("model: [\n")
    assert "bad.yaml" in refused(["fit", str(tmp_path / "bad.yaml")], capsys)


def test_unknown_commands_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean fit" in refused(["fti"], capsys)
    assert "rs4d_small" in refused(["fit", "recipes/rs4d_smal.yaml"], capsys)
    assert "needs a recipe" in refused(["fit"], capsys)
    for words in (["fit", "nope.yaml"], ["recipes", "show", "finetune/nwpu_maskrcnn"]):
        line = refused(words, capsys)
        assert f"there is no file {words[-1]} and no shipped recipe of that name; " in line
        assert "`distill recipes list` lists them all" in line
        assert line.count("/nwpu_mask_rcnn") == 2 * ("maskrcnn" in words[-1])  # the nearest, not all of them
    assert "rs4d_small" in refused(["recipes", "show", "rs4d_smal"], capsys)


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_scoring_takes_a_run(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"`distill {verb}` needs a run; pass the folder that `distill fit` wrote" in refused([verb], capsys)
    line = refused([verb, "runs/nothing"], capsys)
    assert "run 'runs/nothing' does not exist; pass the folder that `distill fit` wrote" in line
    with pytest.raises(UserError, match="run 'runs/nothing' does not exist"):
        {"validate": distill.validate, "test": distill.test}[verb]("runs/nothing")


def test_a_second_fit_does_not_mix_runs(distill_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    assert main(["fit", str(distill_recipe), *fast]) == 0
    assert "already holds a run" in refused(["fit", str(distill_recipe), *fast], capsys)
    assert main(["fit", str(distill_recipe), *fast, "--run.overwrite=true"]) == 0


def test_testing_before_fitting(finetune_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "distill fit" in refused(["test", str(finetune_recipe)], capsys)


def test_a_run_without_validation_is_not_validated(finetune_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(finetune_recipe), "--trainer.limit_val_batches=0"]) == 2
    said = capsys.readouterr().err
    assert "trainer.limit_val_batches is 0" in said
    assert said.count("\n") == 1


def test_a_config_of_a_distillation_asks_for_no_weights(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "config.py"
    words = ["mmdet-config", str(distill_recipe), "--output", str(output), "--model.teacher.checkpoint=/nowhere.pth"]
    assert "trains no head" in refused(words, capsys, output)


def test_a_head_that_refuses_an_argument_is_named(
    finetune_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(["fit", str(finetune_recipe), "--model.head.neck_norm=foo"], capsys, tmp_path / "run")
    assert "model.head: unknown neck norm 'foo'" in line
    line = refused(["fit", str(finetune_recipe), "--model.head.neck_channels=30"], capsys, tmp_path / "run")
    assert line == "distill: error: model.head.neck_channels is 30; it must be a multiple of 4"


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_is_none(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str
) -> None:
    line = refused(["fit", str(distill_recipe), f"--seed_everything={seed}"], capsys, tmp_path / "run")
    assert f"seed_everything is {seed}; it must lie in 0 to 4294967295" in line


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_a_run_folder_that_cannot_be_made(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    (tmp_path / "file").write_text("")
    line = refused(["fit", str(distill_recipe), f"--run.dir={tmp_path / 'file' / below}"], capsys)
    assert "cannot be written (Not a directory); name another with --run.dir" in line
