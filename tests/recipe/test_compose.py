"""Several recipes become one: later over earlier, key by key."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from distill.cli import main
from distill.errors import UserError
from distill.launch.parse import ParsedRecipe
from distill.launch.recipe_data import is_recipe
from distill.recipe.command_line import merged, split
from distill.recipe.compose import compose, on_one_line


def written(folder: Path, name: str, content: dict[str, Any]) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def test_mappings_merge_and_anything_else_replaces(tmp_path: Path) -> None:
    first = {"trainer": {"max_steps": 3, "callbacks": [1, 2], "precision": "bf16-mixed"}, "run": {"seeds": [0, 1]}}
    second = {"trainer": {"callbacks": [3], "precision": None, "devices": 2}, "seed_everything": 7}
    recipe = compose([written(tmp_path, "first", first), written(tmp_path, "second", second)])
    assert recipe.content == {
        "trainer": {"max_steps": 3, "callbacks": [3], "precision": None, "devices": 2},
        "run": {"seeds": [0, 1]},
        "seed_everything": 7,
    }
    assert recipe.path == Path("first_second.yaml")


def test_another_class_keeps_what_it_takes(tmp_path: Path) -> None:
    student = {"class_path": "students.LALE", "init_args": {"variant": "S2"}}
    own = written(tmp_path, "own", {"model": {"init_args": {"student": student}}})
    content = compose(["finetune/mask_rcnn", "data/nwpu", own]).content["model"]["init_args"]
    assert content["student"] == {"class_path": "students.LALE", "init_args": {"checkpoint": None, "variant": "S2"}}
    assert content["head"]["class_path"] == "heads.MaskRCNN"
    with_class = written(tmp_path, "head", {"model": {"init_args": {"head": "heads.DenseMasks"}}})
    head = compose(["finetune/mask_rcnn", "data/nwpu", "size/cpu", with_class]).content["model"]["init_args"]["head"]
    assert head["class_path"] == "heads.DenseMasks"
    assert "roi_samples" not in head["init_args"]


def test_a_piece_that_names_no_class_changes_the_arguments_of_the_one_before() -> None:
    content = compose(["finetune/mask_rcnn", "data/whu", "size/cpu"]).content
    assert content["data"]["class_path"] == "distill.data.WHU"
    assert content["data"]["init_args"]["image_size"] == 256
    assert content["model"]["init_args"]["student"]["init_args"]["variant"] == "tiny"
    assert "checkpoint" in content["model"]["init_args"]["student"]["init_args"]


def test_one_file_goes_to_the_parser_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "own", {"trainer": {"max_steps": 1}})
    assert compose([path]).words == ("--config", path)
    assert compose([path, "size/cpu"]).words[0].startswith("--config={")


def test_a_folder_of_data_does_not_hide_the_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/nwpu").mkdir(parents=True)
    assert compose(["finetune/mask_rcnn", "data/nwpu"]).content["data"]["class_path"] == "distill.data.NWPU"
    assert not is_recipe("data/nwpu")
    assert is_recipe("data/whu")
    assert is_recipe("finetune/nwpu_mask_rcnn")
    with pytest.raises(UserError, match="data is a folder without"):
        compose(["data"])


def test_a_variation_of_a_run_is_a_run_of_its_own(tmp_path: Path) -> None:
    """The stored recipe names its folder, which may hold the run or have been moved: neither is the new run's."""
    stored = compose(["finetune/mask_rcnn", "data/nwpu"]).content
    stored["run"] = {"dir": "elsewhere/mine", "experiment": "mine", "checkpoint_every": 7}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(stored), encoding="utf-8")
    alone, varied = compose([str(tmp_path)]), compose([str(tmp_path), "size/cpu"])
    assert alone.content["run"] == stored["run"]
    assert varied.content["run"] == {"checkpoint_every": 7}
    assert varied.path.stem == f"{tmp_path.name}_cpu"


def test_overrides_go_over_all_recipes() -> None:
    recipe, words = split(["finetune/mask_rcnn", "data/nwpu", "size/cpu", "--trainer.max_steps", "7"])
    assert recipe is not None
    assert str(recipe) == "finetune/mask_rcnn data/nwpu size/cpu"
    assert recipe.path.stem == "mask_rcnn_nwpu_cpu"
    assert merged(recipe, words)["trainer"] == {"max_steps": 7, "val_check_interval": 500}
    assert recipe.content["trainer"]["max_steps"] == 1500


def test_a_shipped_recipe_that_replaces_a_value_of_the_users_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = written(tmp_path, "mine", {"trainer": {"max_steps": 20}, "data": {"class_path": "distill.data.WHU"}})
    (note,) = compose(["finetune/mask_rcnn", mine, "size/cpu"]).notes
    assert note == (f"trainer.max_steps 20 of {mine} is replaced by 1500 of size/cpu; name your own file last")
    last = compose(["finetune/mask_rcnn", "size/cpu", mine])
    assert last.notes == ()
    assert last.content["trainer"]["max_steps"] == 20
    assert last.content["data"]["init_args"]["image_size"] == 256
    assert main(["fit", "finetune/mask_rcnn", mine, "size/cpu"]) == 2  # which has no folder of images
    assert f"distill: {note}" in capsys.readouterr().err


def test_a_note_names_the_class_and_a_few_keys_that_are_replaced(tmp_path: Path) -> None:
    arguments = {"fc_channels": 1, "roi_samples": 2, "proposals": 3, "mask_convs": 4, "neck_norm": "none"}
    head = {"class_path": "heads.CascadeMaskRCNN", "init_args": arguments}
    mine = written(tmp_path, "mine", {"model": {"init_args": {"head": head}}})
    first, second = compose([mine, "finetune/mask_rcnn", "size/cpu"]).notes
    assert first.startswith(f"model.head heads.CascadeMaskRCNN of {mine} is replaced by heads.MaskRCNN, model.head.ne")
    assert second.count("is replaced by") == 3
    assert second.endswith(" (and 1 more) of size/cpu; name your own file last")
    assert compose([mine, mine, "data/nwpu"]).notes == ()


def test_values_pass_the_command_line_as_they_are() -> None:
    parser = ArgumentParser()
    parser.add_argument("--a", type=Any)
    texts = ("1", "1e-3", "-2.5e3", ".5e1", "1e-3 px", "a: b", "{x}", "ü ' \" \\")
    for value in (1e-05, 0.0004, 1e30, float("inf"), None, True, [1, "null", "1e-3", 1e-3], *texts):
        assert parser.parse_args([f"--a={on_one_line({'b': value})}"]).a == {"b": value}


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        (["--model.loss.terms={l2: 1.0}"], {"l2": 1.0}),
        (["--model.loss={terms: {l2: 1.0}}"], {"l2": 1.0}),
        (["--config={model: {init_args: {loss: {terms: {l2: 1.0}}}}}"], {"l2": 1.0}),
        (["--model.loss.terms.l2=1.0"], {"l1": 1.0, "cosine": 1.0, "l2": 1.0}),
        (["--model.init_args.loss.terms={}", "--model.loss.terms.l2=1.0"], {"l2": 1.0}),
    ],
)
def test_a_mapping_of_free_names_is_shown_as_the_parser_takes_it(words: list[str], terms: dict[str, float]) -> None:
    recipe, rest = split(["rs4d_small", *words])
    assert recipe is not None
    model = ParsedRecipe("fit", recipe, rest).config.model.init_args
    assert model.loss.terms == merged(recipe, rest)["model"]["init_args"]["loss"]["terms"] == terms


def test_settings_and_arguments_of_a_class_are_kept_beside_those_of_an_override() -> None:
    words = ["--model.optim={lr: 0.1}", "--model.student={init_args: {image_size: 256}}"]
    model = merged(compose(["rs4d_small"]), words)["model"]["init_args"]
    assert model["optim"] == {"lr": 0.1, "warmup_steps": 500}
    assert model["student"]["init_args"] == {"variant": "small", "image_size": 256}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["finetune/mask_rcnn"], "finetune/mask_rcnn has no data; a recipe is a mapping with model, data and trainer"),
        (["data/nwpu", "size/cpu"], "data/nwpu size/cpu: model has no class_path; put a recipe that has it before"),
        (["finetune/prompt", "data/nwpu", "size/cpu"], "unknown key in model.head 'mask_convs'"),
        (["rs4d_small", "--data.root", "x", "size/cpu"], "'size/cpu' follows no --key; recipes come first"),
        (["rs4d_small", "last"], "there is no file last and no shipped recipe of that name; "),
    ],
)
def test_what_does_not_go_together_is_said(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_composition_is_shown_and_written_as_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["mask_rcnn", "data/nwpu", "size/cpu", "--trainer.max_steps", "7"]
    assert main(["recipes", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == f"# distill fit {' '.join(words)}"
    expected = compose(words[:3]).content | {"trainer": {"max_steps": 7, "val_check_interval": 500}}
    assert yaml.safe_load(shown) == expected
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", *words]) == 0
    assert (tmp_path / "mask_rcnn_nwpu_cpu.yaml").read_text(encoding="utf-8") == shown
    assert main(["recipes", "copy", *words[:3], "mine.yaml"]) == 0
    assert compose(["mine.yaml"]).content == compose(words[:3]).content
    assert main(["recipes", "copy", *words[:3], "mine.yaml"]) == 2
