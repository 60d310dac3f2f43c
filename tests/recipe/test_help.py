"""`--help` of verbs that take recipes: a screen of the keys that are changed most, and with `--help-all` every key."""

import pytest

from distill.cli import main
from distill.recipe.check import TRAINER
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.recipe.find import shipped
from distill.recipe.help import help_text
from distill.recipe.signatures import parameters

BOXES = "finetune/nwpu_mask_rcnn_cpu"


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_it_fits_a_screen_for_every_recipe(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in (None, *shipped(), *COMBINATIONS):
        lines = help_text(stage, None if name is None else compose([name])).splitlines()
        assert len(lines) <= 40, name
        assert max(map(len, lines)) <= 100, name
        assert lines[-1] == f"Every key, Lightning's too: distill {stage} {name or 'RECIPE'} --help-all"


def test_it_shows_the_values_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", BOXES, "--help", "--model.optim.lr", "0.5")
    assert "model: distill.FineTuningModule Trains a head on a student's feature maps" in text
    assert "--model.optim.lr 0.5 peak learning rate" in text
    assert "--run.dir (null) run folder" in text
    assert "--model.head.roi_samples" not in text
    assert text.index("--model.") < text.index("--data.") < text.index("--trainer.") < text.index("--run.dir")


def test_what_a_class_needs_is_shown() -> None:
    text = help_text("fit", compose(["finetune/mask_rcnn"]), ["--data=distill.data.SemanticFolder"])
    assert "--data.root VALUE (needed)" in text
    assert "--data.classes VALUE (needed)" in text


def test_a_scoring_shows_no_keys_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "test", BOXES, "--help")
    assert "--data.root data/nwpu" in text
    assert "--model.optim.lr" not in text
    assert "--run.overwrite" not in text


def test_help_all_shows_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", BOXES, "--help-all", "--model.optim.lr", "0.5")
    assert "--model.optim.lr 0.5 Peak learning rate" in text
    assert "--model.head.roi_samples 64 " in text
    assert "--model.head.max_detections (100) Most instances predicted in one image" in text
    assert "--data.augmentation.looks (4.0) " in text
    assert "--trainer.gradient_clip_val (1.0) " in text  # not Lightning's default
    assert all(f"--trainer.{key} " in text for key in parameters(TRAINER) or {})
    assert "--trainer.plugins " in shown(capsys, "fit", "--help-all")


def test_constants_are_shown_by_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "rs4d_small", "--help-all", "--model.student", "students.LALE")
    assert "--model.cache.on_mismatch (error)" in text
    assert f"--model.student.star_scale ({1.25**-0.5})" in text
    assert "STAR" not in text
    terms = (parameters("distill.tasks.losses.features.LossSettings") or {})["terms"]
    assert terms.default == "{'l1': 1.0, 'cosine': 1.0}"
