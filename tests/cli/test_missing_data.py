"""Data that is missing where a run is scored: one line that names the key, before there is a model."""

from pathlib import Path

import pytest

from distill.cli import main
from distill.launch.parse import ParsedRecipe


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_scoring_finds_missing_data_before_it_builds_the_model(
    finetune_recipe: Path,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """Of the files that the split needs: the images of training are not among them."""
    fast = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
    assert main(["fit", str(finetune_recipe), *fast]) == 0
    score = [verb, str(tmp_path / "run"), "--trainer.limit_val_batches=1.0", "--data.train_images=nowhere"]
    if verb == "test":
        score += [f"--data.test_images={scenes / 'test/images'}", "--data.val_images=nowhere"]
        score += [f"--data.test_annotations={scenes / 'test/annotations.json'}"]
    assert main(score) == 0
    monkeypatch.setattr(ParsedRecipe, "build", lambda *_, **__: pytest.fail("the model was built"))
    split = {"validate": "val", "test": "test"}[verb]
    capsys.readouterr()
    for name in (f"{split}_images", f"{split}_annotations", "train_annotations"):
        assert main([*score, f"--data.{name}=gone"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"distill: error: data.{name} 'gone' does not exist; give ")
