"""The distillation recipes take real steps from the command line, with smaller views and narrower teachers."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from distill.cli import main
from distill.recipe.combinations import COMBINATIONS
from distill.recipe.compose import compose
from distill.recipe.find import shipped
from distill.weights import load_student
from tests.contract.cases import narrow

# Every file, and every size for CPUs; the ablations are overrides of the same.
RECIPES = [name for name in (*shipped(), *COMBINATIONS) if "/" not in name]
SMALL = ["--data.image_size=64", "--data.batch_size=2", "--data.num_workers=0", "--data.val_limit=1"]
SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--model.calibration_images=2"]
RS4D = ["--model.student.variant=tiny", "--model.student.image_size=64"]


@pytest.mark.parametrize("name", RECIPES)
def test_takes_real_steps(
    name: str, scenes: Path, vit_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    recipe = compose([name]).content["model"]["init_args"]
    student = recipe["student"]["class_path"]
    words = [f"--data.root={scenes / 'train' / 'images'}", f"--run.dir={tmp_path / 'run'}", "--trainer.accelerator=cpu"]
    words += [*SMALL, *SHORT, *teacher(recipe["teacher"], tmp_path, vit_weights)]
    assert main(["fit", name, *words, *(RS4D if student == "students.RS4D" else [])]) == 0
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    maps = load_student(tmp_path / "run" / "student.safetensors")(torch.randn(1, 3, 64, 64))
    assert maps[-1].isfinite().all()


def teacher(given: dict[str, Any], folder: Path, vit_weights: Path) -> list[str]:
    """Arguments that put random weights, and fewer of them, in the place of the released ones."""
    if given["class_path"] == "teachers.ViT":
        return ["--model.teacher.name=vit_tiny_patch16_224", f"--model.teacher.checkpoint={vit_weights}"]
    torch.manual_seed(0)
    if given["class_path"] == "teachers.CNN":  # four stages, as the ConvNeXts of the recipes
        torch.save(timm.create_model("test_convnext").state_dict(), folder / "cnn.pth")
        return ["--model.teacher.name=test_convnext", f"--model.teacher.checkpoint={folder / 'cnn.pth'}"]
    torch.save(timm.create_model("samvit_base_patch16", num_classes=0, img_size=64).state_dict(), folder / "sam.pth")
    return [f"--model.teacher.checkpoint={folder / 'sam.pth'}", "--model.teacher.image_size=64"]
