"""The side of training views is a function of the step alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distill.data import CocoInstances, ImageFolder
from distill.data.loader import train_loader
from distill.data.sample_key import SampleKey
from distill.data.size_schedule import SizeSchedule, SizeStage
from distill.errors import UserError
from distill.targets.teacher_view import teacher_view, view_size
from tests.data import landcover
from tests.data.test_loader import Noise

STAGES = [SizeStage(16, 3), SizeStage(24, 5)]
BLOCKS = np.arange(11, dtype=np.int32) // 2  # the shuffle for network disks


def test_sides_by_step() -> None:
    schedule = SizeSchedule(STAGES, 32)
    assert [schedule.at(step) for step in range(7)] == [16, 16, 16, 24, 24, 32, 32]
    assert schedule.parts(1, 6) == [(16, 2), (24, 2), (32, 1)]
    assert schedule.parts(5, 5) == []
    assert schedule.sentence(4) == "16 px for 3 steps, then 24 px for 1 step"
    assert (schedule.unreached(5), schedule.unreached(6), schedule.unreached(3)) == ([32], [], [24, 32])


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], "data.sizes is empty"),
        ([SizeStage(0, 3)], "has the size 0"),
        ([SizeStage(16, 0)], "has until 0"),
        ([SizeStage(16, 5), SizeStage(24, 5)], "has until 5, 5; these are steps of the run"),
    ],
)
def test_stages_that_make_no_schedule_are_refused(stages: list[SizeStage], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ImageFolder("nowhere", sizes=stages)


def keys(
    batch_size: int, rank: int = 0, epoch: int = 0, start: int = 0, **trainer: Any
) -> list[tuple[int, int | None]]:
    """Index and side of each draw of an epoch of 11 samples."""
    settings = {"world_size": 1, "global_rank": rank, "limit_train_batches": 1.0, "accumulate_grad_batches": 1}
    given: Any = SimpleNamespace(**settings | trainer)
    sampler: Any = train_loader(
        Noise(11), batch_size, 0, 0, given, sizes=SizeSchedule(STAGES, 32), blocks=BLOCKS
    ).sampler
    sampler.set_epoch(epoch)
    sampler.start = start
    return [(key.index, key.size) for key in sampler]


def sides(*args: int, **kwargs: Any) -> list[int | None]:
    return [size for _, size in keys(*args, **kwargs)][: 2 * 5]


def test_every_batch_has_one_side_and_steps_go_on_over_epochs() -> None:
    assert sides(2) == [16] * 6 + [24] * 4
    assert sides(2, epoch=1) == [32] * 10
    assert keys(2, start=4) == keys(2)[4:]


def test_steps_are_those_of_the_optimizer() -> None:
    """Of an epoch of five batches, two at a time, the last step has one; a limited epoch has fewer."""
    assert sides(2, accumulate_grad_batches=2) == [16] * 10
    assert sides(2, epoch=1, accumulate_grad_batches=2) == [24] * 8 + [32] * 2
    assert sides(2, epoch=1, limit_train_batches=2)[:4] == [16] * 2 + [24] * 2


def test_processes_show_what_one_does_with_the_whole_batch() -> None:
    whole = keys(4)
    halves = [keys(2, rank, world_size=2) for rank in range(2)]
    for batch in range(2):
        shared = [half[2 * batch + place] for place in range(2) for half in halves]
        assert shared == whole[4 * batch : 4 * batch + 4]


def first_shapes(data: Any) -> list[tuple[int, ...]]:
    return [tuple(batch["image"].shape) for batch, _ in zip(data.train_dataloader(), range(2), strict=False)]


@pytest.mark.parametrize("workers", [0, 2])
def test_modules_show_views_of_that_side(scenes: Path, workers: int) -> None:
    given: dict[str, Any] = {"image_size": 32, "batch_size": 3, "num_workers": workers, "sizes": [SizeStage(16, 1)]}
    images, annotations = str(scenes / "train/images"), str(scenes / "train/annotations.json")
    folder = ImageFolder(images, val_fraction=0.3, **given)
    coco = CocoInstances(train_images=images, train_annotations=annotations, **given)
    for data in (folder, coco):
        assert first_shapes(data) == [(3, 3, 16, 16), (3, 3, 32, 32)]
    assert next(iter(folder.val_dataloader()))["image"].shape[-1] == 32
    assert next(iter(folder.full_size_dataloader()))["image"].shape[-1] == 32
    batch = next(iter(coco.train_dataloader()))
    assert all(target.masks.shape[-1] == 16 for target in batch["targets"])


def test_land_cover_shows_as_much_ground_at_any_side(tmp_path: Path) -> None:
    """Where an image is read pixel by pixel, a view of half the side has every other of its labels."""
    data = landcover.folder(landcover.write(tmp_path, colours=False), scale_jitter=(1.0, 1.0)).dataset("train")
    whole, half = (data[SampleKey(1, 0, size=size)] for size in (None, 8))
    assert half["image"].shape == (3, 8, 8)
    assert torch.equal(half["label"], whole["label"][1::2, 1::2])
    assert len(half["label"].unique()) > 1


@pytest.mark.parametrize(("side", "patch"), [(32, 8), (40, 14), (50, 14), (72, 16)])
def test_the_teachers_cells_span_the_students_at_every_side(side: int, patch: int) -> None:
    """Students of stride 8 and teachers of any patch divide the same extent, so the grids lie on each other."""
    images = torch.rand(1, 3, side, side)
    seen = teacher_view(images, 8, patch)
    assert seen.shape[-2:] == view_size((side, side), 8, patch)
    cells, own = -(-seen.shape[-1] // patch), -(-side // 8)
    assert cells * patch == (own * 8 if seen is images else seen.shape[-1])
