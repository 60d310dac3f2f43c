import copy
import csv
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from distill.cli import main
from distill.contracts import TeacherBase
from distill.errors import UserError
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.distillation import DistillationModule
from distill.tasks.matching.baseline import TargetStatistics
from distill.weights import load_student
from students import RS4D, TimmStudent
from teachers import ViT


@pytest.fixture
def teacher(vit_weights: Path) -> ViT:
    return ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))


@pytest.fixture
def student() -> RS4D:
    torch.manual_seed(0)
    return RS4D("tiny", image_size=64, patch_size=8)


def test_the_teacher_is_in_no_checkpoint_and_no_optimizer(teacher: ViT, student: RS4D) -> None:
    module = DistillationModule(teacher, student, target="embedding")
    own = {id(p) for p in module.parameters()}
    assert not own & {id(p) for p in teacher.parameters()}
    assert not [name for name in module.state_dict() if "teacher" in name]
    module.train()
    assert not teacher.training
    assert copy.deepcopy(module).teacher is teacher


def test_adapter_only_where_channels_differ(teacher: ViT, student: RS4D) -> None:
    assert student.token_channels == teacher.channels["embedding"] == 192
    assert isinstance(DistillationModule(teacher, student, target="embedding").adapter.projection, nn.Identity)
    other = DistillationModule(
        teacher, TimmStudent("resnet18"), "embedding", CorruptionSettings(noise=0.2, mask=0.2, level="image")
    )
    assert isinstance(other.adapter.projection, nn.Conv2d)


def test_grids_are_aligned_to_the_teachers(teacher: ViT, student: RS4D) -> None:
    module = DistillationModule(teacher, student, target="embedding")
    assert module.adapter(torch.randn(2, student.token_channels, 4, 6), (8, 12)).shape[-2:] == (8, 12)


def test_a_student_without_tokens_needs_none_where_nothing_is_corrupted(teacher: ViT) -> None:
    module = DistillationModule(teacher, TimmStudent("test_resnet"), target="embedding")
    maps, touched = module.student_maps(torch.rand(1, 3, 64, 64), corrupted=True)
    assert touched is None
    assert len(maps) == 5
    with pytest.raises(UserError, match=r"set model\.corruption\.level to 'image'"):
        DistillationModule(teacher, TimmStudent("test_resnet"), "embedding", corruption=CorruptionSettings(mask=0.1))


def test_corruption_reaches_the_student_alone(teacher: ViT, student: RS4D) -> None:
    corruption = CorruptionSettings(noise=0.2, mask=0.2)
    module = DistillationModule(teacher, student, target="embedding", corruption=corruption)
    images = torch.rand(2, 3, 64, 64)
    clean, none = module.student_maps(images)
    corrupted, touched = module.student_maps(images, corrupted=True)
    assert none is None
    assert touched is not None
    assert touched.shape == (2, 64)
    assert touched.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert not torch.equal(clean[-1], corrupted[-1])
    assert torch.equal(module.raw_target({"image": images}), teacher(images)["embedding"])


def test_image_level_corruption_takes_any_student(teacher: ViT) -> None:
    settings = CorruptionSettings(noise=0.2, mask=0.2, level="image", patch_size=16)
    module = DistillationModule(teacher, TimmStudent("resnet18"), target="embedding", corruption=settings)
    features, touched = module.student_maps(torch.rand(1, 3, 64, 96), corrupted=True)
    assert touched is not None
    assert touched.shape == (1, 24)
    assert features[-1].shape[0] == 1


def test_unknown_target_and_tokens_of_a_plain_student(teacher: ViT, student: RS4D) -> None:
    with pytest.raises(UserError, match="did you mean embedding"):
        DistillationModule(teacher, student, target="embeding")
    with pytest.raises(UserError, match="exposes no tokens"):
        DistillationModule(teacher, TimmStudent("resnet18"), "embedding", CorruptionSettings(noise=0.1))


def test_a_teacher_of_ones_own_that_lacks_something(student: RS4D) -> None:
    with pytest.raises(UserError, match=r"model\.teacher is Linear, which is no TeacherBase; derive the class"):
        DistillationModule(nn.Linear(2, 2), student)

    class Mine(TeacherBase):
        channels: ClassVar = {"map": 192}
        reduction: ClassVar = {"other": 8}

    with pytest.raises(UserError, match="no entry for 'map'"):
        DistillationModule(Mine(), student, target="map")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_a_complete_folder_and_learns(distill_recipe: Path, tmp_path: Path) -> None:
    assert main(["fit", str(distill_recipe), "--trainer.max_steps=40", "--trainer.val_check_interval=20"]) == 0
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    written = "recipe.yaml environment.json metrics.csv checkpoints student.safetensors summary.json card.md"
    assert names >= set(written.split())
    ratios = [float(row["val/l1_ratio"]) for row in rows(folder) if row.get("val/l1_ratio")]
    assert len(ratios) == 2
    assert ratios[-1] < ratios[0]
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert not [name for name in checkpoint["state_dict"] if "teacher" in name]
    # The three lines of Python that the card promises.
    student = load_student(folder / "student.safetensors")
    assert student(torch.randn(1, 3, 64, 64))[-1].shape == (1, 192, 8, 8)
    card = (folder / "card.md").read_text()
    assert "load_student" in card
    assert "| side of an image, px | 64 |" in card


def test_broken_images_are_skipped_named_and_counted(
    distill_recipe: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(scenes / "train" / "images", images)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    steps = ["--trainer.max_steps=14", "--trainer.val_check_interval=14"]
    assert main(["fit", str(distill_recipe), f"--data.root={images}", *steps]) == 0
    assert "Skipped 1 broken images: broken.png" in capsys.readouterr().out


def test_the_output_starts_at_the_targets_scale(distill_recipe: Path, tmp_path: Path) -> None:
    still = ["--model.optim.lr=1e-9", "--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
    assert main(["fit", str(distill_recipe), *still]) == 0
    student = load_student(tmp_path / "run" / "student.safetensors")
    with torch.no_grad():
        rms = student(torch.randn(8, 3, 64, 64))[-1].square().mean().sqrt()
    stored = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["target_statistics"]
    target = TargetStatistics(**stored).rms()
    assert float(rms) == pytest.approx(target, rel=0.05)
    assert target < 0.5  # what the last norm has by itself is 1


def test_standardised_targets_have_unit_scale(teacher: ViT, student: RS4D, distill_recipe: Path) -> None:
    assert main(["fit", str(distill_recipe), "--model.loss.standardize=true", "--trainer.max_steps=4"]) == 0
    metrics = rows(distill_recipe.parent / "run")
    baseline = [float(row["val/trivial_l1"]) for row in metrics if row.get("val/trivial_l1")]
    assert 0.3 < baseline[0] < 1.2


def test_a_stuck_run_is_warned_about(distill_recipe: Path) -> None:
    arguments = ["fit", str(distill_recipe), "--model.optim.lr=1e-9", "--model.stuck_patience=2"]
    arguments.append("--model.stuck_ratio=0.5")  # its output starts at the scale of the targets, some way below 1
    with pytest.warns(UserWarning, match="predicts positions, not images"):
        assert main([*arguments, "--trainer.max_steps=20", "--trainer.val_check_interval=4"]) == 0


def test_resuming_against_another_teacher_is_refused(
    distill_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(distill_recipe)]) == 0
    torch.manual_seed(9)
    from distill.weights import write_weights

    other = TimmStudent(
        "vit_tiny_patch16_224", out_indices=[0, 1], options={"img_size": 64, "patch_size": 8, "depth": 2}
    )
    path = tmp_path / "other.safetensors"
    write_weights(other, path, {"class": "students.TimmStudent", "init_args": other.init_args})
    arguments = ["fit", str(distill_recipe), "--ckpt_path=last", f"--model.teacher.checkpoint={path}"]
    assert main([*arguments, "--trainer.max_steps=12"]) == 2
    assert "same teacher weights" in capsys.readouterr().err
