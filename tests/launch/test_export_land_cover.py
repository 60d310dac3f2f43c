"""`distill export` of land cover whose student sees patches."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from distill.cli import main
from distill.errors import UserError
from distill.launch.export import export

SIDE = 64


@pytest.fixture
def run(shallow: None, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for number in range(2):
            labels = rng.integers(0, 2, (SIDE, SIDE)).astype(np.uint8)
            Image.fromarray(labels * 255).convert("RGB").save(tmp_path / f"data/{split}/images/{number}.png")
            Image.fromarray(labels).save(tmp_path / f"data/{split}/masks/{number}.png")
    student = {"variant": "tiny", "image_size": SIDE, "patch_size": 8, "out_indices": [0, 1]}
    recipe = {
        "model": {
            "class_path": "distill.SegmentationModule",
            "init_args": {
                "student": {"class_path": "students.RS4D", "init_args": student},
                "head": {"class_path": "heads.LALEDecoder", "init_args": {"channels": 16}},
            },
        },
        "data": {
            "class_path": "distill.data.SemanticFolder",
            "init_args": {
                "root": str(tmp_path / "data"),
                "classes": {"dark": 0, "bright": 1},
                "image_size": SIDE,
                "batch_size": 2,
                "num_workers": 0,
            },
        },
        "trainer": {"max_steps": 2, "limit_val_batches": 0, "accelerator": "cpu"},
        "run": {"dir": str(tmp_path / "run"), "loggers": [], "pictures_every": 0},
    }
    (tmp_path / "cover.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", str(tmp_path / "cover.yaml")]) == 0
    return tmp_path / "run"


def test_images_of_other_sides_than_whole_patches(run: Path, tmp_path: Path) -> None:
    """The run resizes the logits of whole patches to the image, and so does the file."""
    for written in export(run, ["onnx", "pt2"], out=tmp_path / "exported"):
        checks = {check.image: check.difference for check in written.checks}
        assert "64 px, not square" in checks, "which has 37 rows, of 4.6 patches"
        assert all(difference.failed is None for difference in checks.values())


def test_windows_that_no_file_takes(run: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["model"]["init_args"]["window"] = 8
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    message = "run cannot be exported: its windows have 8 px, and a file takes 9 px or more, .* 9 or more, or null$"
    with pytest.raises(UserError, match=message):
        export(run, "pt2", out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_what_deepness_cannot_show_is_refused_before_other_files_are_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not tell how large a pixel of its training images is"):
        export(run, ["pt2", "deepness"], out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
