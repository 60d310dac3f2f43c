"""Old names of keys stay readable in files, stored runs and overrides."""

from pathlib import Path

import pytest
import yaml

from distill.recipe import renamed
from distill.recipe.command_line import merged, split
from distill.recipe.compose import compose, read_recipe

# Invented: keys that a base class of the data, a settings class and a student once had.
OLD = {
    "distill.data.CocoInstances": {"side": "image_size"},
    "distill.training.optim.OptimSettings": {"rate": "lr"},
    "students.RS4D": {"size": "variant"},
}


@pytest.fixture(autouse=True)
def _old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "KEYS", OLD)


def test_a_file_with_old_names_is_read(tmp_path: Path) -> None:
    content = compose(["finetune/nwpu_mask_rcnn"]).content
    arguments = content["model"]["init_args"]
    arguments["student"]["init_args"]["size"] = arguments["student"]["init_args"].pop("variant")
    arguments["optim"]["rate"] = arguments["optim"].pop("lr")
    content["data"]["init_args"]["side"] = content["data"]["init_args"].pop("image_size")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe = compose([str(tmp_path)])
    assert recipe.content == compose(["finetune/nwpu_mask_rcnn"]).content == read_recipe(tmp_path / "recipe.yaml")
    assert sorted(recipe.notes) == [
        "rate of distill.training.optim.OptimSettings is called lr now",
        "side of distill.data.NWPU is called image_size now",  # which derives from CocoInstances
        "size of students.RS4D is called variant now",
    ]
    assert yaml.safe_load(recipe.words[0].removeprefix("--config=")) == recipe.content


def test_a_piece_that_names_no_class_is_read_by_that_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("data: {init_args: {side: 64}}", encoding="utf-8")
    recipe = compose(["finetune/mask_rcnn", "data/nwpu", str(tmp_path / "small.yaml")])
    assert recipe.content["data"]["init_args"]["image_size"] == 64
    assert "side" not in recipe.content["data"]["init_args"]


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--data.side", "64"], ["--config={data: {image_size: 64}}"]),
        (["--data.init_args.side=64"], ["--config={data: {init_args: {image_size: 64}}}"]),
        (
            ["--model.student.size=tiny", "--data.root", "x"],
            ["--config={model: {student: {variant: tiny}}}", "--data.root", "x"],
        ),
        (["--model.optim={rate: 1.0}"], ["--config={model: {optim: {lr: 1.0}}}"]),
        (["--config={data.side: 64}"], ["--config={data: {image_size: 64}}"]),
        (["--data=distill.data.ImageFolder", "--data.side=64"], ["--data=distill.data.ImageFolder", "--data.side=64"]),
        (["--model.student=students.LALE", "--model.student.size=S1"], None),
    ],
)
def test_overrides_with_old_names_are_written_anew(words: list[str], written: list[str] | None) -> None:
    recipe, found = split(["finetune/mask_rcnn", "data/nwpu", *words])
    assert recipe is not None
    if written is not None:
        assert found == written
    if words == ["--config={data.side: 64}"]:
        assert merged(recipe, found)["data"]["init_args"]["image_size"] == 64
    if "LALE" in words[0]:
        assert found == words  # a key of another class
    assert len(recipe.notes) == int(found != words)
