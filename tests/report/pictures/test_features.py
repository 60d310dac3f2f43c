"""Pictures of a distillation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.data import ImageFolder
from distill.report.pictures.drawing import Drawing, heat
from distill.report.pictures.features import feature_drawings
from distill.tasks.corruption import CorruptionSettings
from distill.tasks.corruption.pictures import corrupted_images
from distill.tasks.distillation import DistillationModule
from distill.tasks.losses.features import LossSettings
from distill.tasks.matching.baseline import TargetStatistics
from distill.tasks.matching.pictures import compare_maps
from students import RS4D
from teachers import ViT

Build = Callable[..., DistillationModule]


@pytest.fixture
def build(vit_weights: Path) -> Build:
    """Builds distillations from one teacher."""

    def build(seed: int = 0, standardize: bool = False, **corruption: object) -> DistillationModule:
        teacher = ViT("vit_tiny_patch16_224", checkpoint=str(vit_weights))
        torch.manual_seed(seed)
        student = RS4D("tiny", image_size=64, patch_size=8)
        settings, loss = CorruptionSettings(**corruption), LossSettings(standardize=standardize)  # type: ignore[arg-type]
        task = DistillationModule(teacher, student, target="embedding", corruption=settings, loss=loss).eval()
        task.match.statistics = TargetStatistics.of([task.match.targets(torch.rand(9, 3, 64, 64))], 9)
        return task

    return build


@pytest.fixture
def drawn(scenes: Path) -> Callable[[DistillationModule], list[Drawing]]:
    """Draws the scenes that train, 12 of them."""
    data = ImageFolder(str(scenes / "train/images"), image_size=64, val_root=str(scenes / "train/images"))

    def draw(task: DistillationModule) -> list[Drawing]:
        with torch.no_grad():
            return feature_drawings(data.dataset("val"), task, lambda image: image[None])

    return draw


Draw = Callable[[DistillationModule], list[Drawing]]


def test_students_of_one_teacher_share_images_and_basis(build: Build, drawn: Draw) -> None:
    """Also where one is trained on standardised targets."""
    one, other = drawn(build(0)), drawn(build(1, standardize=True))
    assert [drawing.name for drawing in one] == [drawing.name for drawing in other]
    assert len(one) == 4
    for first, second in zip(one, other, strict=True):
        assert list(first.parts) == ["input", "teacher", "student", "error"], "nothing is corrupted"
        for part in ("input", "teacher"):
            np.testing.assert_array_equal(first.parts[part], second.parts[part])
        assert (first.parts["student"] != second.parts["student"]).any()
        assert {pixels.shape for pixels in first.parts.values()} == {(64, 64, 3)}


@pytest.mark.parametrize("standardize", [False, True])
def test_a_student_that_repeats_its_teacher_has_its_colours_and_no_error(
    build: Build, drawn: Draw, monkeypatch: pytest.MonkeyPatch, standardize: bool
) -> None:
    task = build(standardize=standardize)
    truth: list[Tensor] = []

    def see(images: Tensor) -> tuple[list[Tensor], None]:
        truth[:] = [task.match.target(task.raw_target({"image": images}))]
        return truth, None

    monkeypatch.setattr(task, "student_maps", see)
    for drawing in drawn(task):
        error = np.abs(drawing.parts["teacher"].astype(int) - drawing.parts["student"])
        assert error.max() <= 1
        assert (drawing.parts["error"] == (heat(np.zeros((1, 1))) * 255).round()).all()
        assert drawing.captions["error"].startswith("0.00 of the image-independent baseline")


def test_the_error_is_that_of_the_loss_over_that_of_the_baseline(build: Build) -> None:
    task = build(standardize=True)
    images = torch.rand(2, 3, 64, 64)
    match, targets = task.match, task.match.target(task.raw_target({"image": images}))
    median = match.known.standardized().median
    with torch.no_grad():
        _, _, error = compare_maps(match, match.raw(targets), [median.expand(len(images), -1, -1, -1)])
        expected = [(target - median).abs().mean() for target in targets]
        baseline = [match.baseline_l1(target[None]) for target in targets]
    torch.testing.assert_close(error.mean((1, 2)), torch.stack(expected) / torch.stack(baseline))


@pytest.mark.parametrize("level", ["token", "image"])
def test_as_many_patches_are_touched_as_the_recipe_says(build: Build, drawn: Draw, level: str) -> None:
    task = build(level=level, noise=0.25, mask=0.125, patch_size=16)
    torch.nn.init.constant_(task.corruption.mask_token, 9.0)  # of images it is a colour: white
    drawings = drawn(task)
    size = 8 if level == "token" else 16
    with torch.no_grad():
        images = [torch.from_numpy(drawing.parts["input"].copy()).permute(2, 0, 1)[None] / 255 for drawing in drawings]
        shown = corrupted_images(images[0], task.student, task.normalize, task.corruption)
    changed = ((shown - images[0]).abs() > 1e-4).any(1)[0].view(64 // size, size, 64 // size, size).any(3).any(1)
    assert int(changed.sum()) == round(0.375 * (64 // size) ** 2)
    masked = shown[0].view(3, 64 // size, size, 64 // size, size)
    colour = torch.ones(3) if level == "image" else torch.tensor(task.student.mean)
    grey = (masked - colour.view(3, 1, 1, 1, 1)).abs().amax((0, 2, 4)) < 1e-5
    assert int(grey.sum()) == round(0.125 * (64 // size) ** 2)
    assert drawings[0].captions["corrupted"] == "25 % of the tokens noisy, 12 % masked"
    assert len({drawing.parts["corrupted"].tobytes() for drawing in drawings}) == 4


def test_a_schedule_that_has_not_begun_corrupts_nothing(build: Build, drawn: Draw) -> None:
    task = build(noise=0.25, control="linear", steps=8)
    task.corruption.at(0)
    assert {"corrupted" in drawing.parts | drawing.captions for drawing in drawn(task)} == {False}
    task.corruption.at(4)
    assert {drawing.captions["corrupted"] for drawing in drawn(task)} == {"12 % of the tokens noisy, 0 % masked"}


def test_blocks_and_guided_masks_are_shown(build: Build, drawn: Draw) -> None:
    task = build(noise=0.0, mask=0.25, mask_shape="block", guide="high", block_area=(0.3, 0.3))
    drawings = drawn(task)
    grey = torch.tensor(task.student.mean) * 255
    for drawing in drawings:
        cells = torch.from_numpy(drawing.parts["corrupted"].copy()).float().view(8, 8, 8, 8, 3)
        masked = ((cells - grey).abs() < 1).all(-1).all(3).all(1)
        assert int(masked.sum()) == 16
        assert int((masked[1:] & masked[:-1]).sum()) >= 9, "of neighbours"
    assert drawings[0].captions["corrupted"].endswith("25 % masked in blocks, where the teacher's map varies most")


def test_nothing_is_drawn_from_the_generators_of_training(build: Build, drawn: Draw) -> None:
    task = build(noise=0.2, mask=0.2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = drawn(task)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert [d.parts["corrupted"].tobytes() for d in drawn(task)] == [d.parts["corrupted"].tobytes() for d in first]


def test_what_replaces_a_broken_image_is_shown_once(build: Build, scenes: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (scenes / "test/images").iterdir())
    for name in names:
        (tmp_path / name).write_bytes((scenes / "test/images" / name).read_bytes())
    (tmp_path / names[1]).write_bytes(b"broken")
    data = ImageFolder(str(tmp_path), image_size=64, val_root=str(tmp_path)).dataset("val")
    shown = [data.name(index) for index in range(4) if data.name(index) != names[1]]
    with torch.no_grad():
        drawings = feature_drawings(data, build(), lambda image: image[None])
    assert sorted(drawing.name for drawing in drawings) == sorted(shown)


def test_a_diverged_student_is_drawn(build: Build, drawn: Draw) -> None:
    task = build()
    with torch.no_grad():
        for parameter in task.student.parameters():
            parameter.fill_(float("nan"))
    for drawing in drawn(task):
        assert not drawing.parts["student"].any()
        assert drawing.captions["error"].startswith("nan of")


def test_an_image_that_its_tokens_do_not_cover_evenly(build: Build) -> None:
    images: Tensor = torch.rand(1, 3, 60, 44)
    task = build(level="token", noise=0.0, mask=1.0)
    shown = corrupted_images(images, task.student, task.normalize, task.corruption)
    assert shown.shape == images.shape
    torch.testing.assert_close(shown, torch.tensor(task.student.mean).view(1, 3, 1, 1).expand_as(images))
