"""Equal places of the teacher's and the student's map show the same place of the image."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.targets.teacher_view import teacher_view, view_size
from distill.tasks.matching.adapter import Adapter
from teachers.frozen import FrozenTeacher

CASES = [  # side of the view, the student's stride, the teacher's patch
    (512, 16, 14),
    (512, 32, 14),
    (512, 8, 14),
    (256, 16, 14),
    (1024, 16, 14),
    (520, 8, 14),
    (512, 16, 13),
    (500, 16, 14),
    (496, 32, 16),
    (512, 14, 16),
]


class Places(FrozenTeacher):
    """Each cell of its map is the mean of its pixels."""

    def __init__(self, patch: int) -> None:
        super().__init__("places", nn.AvgPool2d(patch), patch, (0.0,) * 3, (1.0,) * 3, {"embedding": 3})

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.encoder(images)}


def drift(side: int, stride: int, patch: int, aligned: bool = True, image_size: int | None = None) -> Tensor:
    """How far right of the student's cells the teacher's lie, in pixels, away from the borders."""
    centres = torch.arange(side) + 0.5
    image = torch.stack(torch.meshgrid(centres, centres, indexing="xy")).repeat(2, 1, 1)[None, :3]
    view = teacher_view(image, stride, patch, image_size) if aligned else image
    target = Places(patch)(view)["embedding"]
    cells = -(-side // stride)
    own = F.avg_pool2d(F.pad(image, (0, cells * stride - side) * 2, mode="replicate"), stride)
    found = Adapter(3, 3)(own, (target.shape[-2], target.shape[-1]))
    assert torch.allclose(found[0, 1], found[0, 0].T, atol=1e-3)
    margin = 2 * max(1, target.shape[-1] // cells)
    return (target - found)[0, :, margin:-margin, margin:-margin]


@pytest.mark.parametrize(("side", "stride", "patch"), CASES)
def test_cell_centres_agree(side: int, stride: int, patch: int) -> None:
    # Where the numbers of cells have no common measure, resampling itself is off by half a pixel.
    assert drift(side, stride, patch).abs().max() < (0.01 if (side, stride) != (520, 8) else 0.7)


@pytest.mark.parametrize(
    ("image_size", "sides"), [(1024, (1024, 512)), (200, (196, 98)), (448, (448, 224)), (5, (14, 14))]
)
def test_a_teacher_may_see_another_resolution(image_size: int, sides: tuple[int, int]) -> None:
    """Its longer side comes nearest to the one that was asked for, in whole cells."""
    patch = 16 if image_size == 1024 else 14
    view = teacher_view(torch.rand(1, 3, 256, 128), 16, patch, image_size)
    assert view.shape[-2:] == sides == view_size((256, 128), 16, patch, image_size)


@pytest.mark.parametrize(("side", "image_size"), [(256, 512), (256, 128), (250, 500), (250, 250)])
def test_its_cells_show_the_same_places(side: int, image_size: int) -> None:
    # What a padded border repeats reaches a cell further in when it is enlarged.
    assert drift(side, 16, 16, image_size=image_size).abs().max() < (0.01 if (side, image_size) != (250, 500) else 0.3)


def test_padding_would_move_them() -> None:
    """By up to the padding: 512 px to 37 patches of 14, 500 px to 32 of 16."""
    assert drift(512, 16, 14, aligned=False).max() > 5
    assert drift(500, 16, 14, aligned=False).min() < -7


@pytest.mark.parametrize(
    ("side", "stride", "patch", "size"), [(512, 16, 14, 448), (512, 32, 14, 448), (518, 14, 14, 518)]
)
def test_sizes(side: int, stride: int, patch: int, size: int) -> None:
    assert teacher_view(torch.rand(1, 3, side, side), stride, patch).shape[-2:] == (size, size)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (64, 96), (500, 512), (33, 50)])
def test_nothing_changes_where_the_extents_are_the_same(height: int, width: int) -> None:
    """A view that both divide, and one that both pad alike."""
    images = torch.rand(1, 3, height, width)
    assert teacher_view(images, 16, 16) is images


def test_half_precision_and_sides_of_their_own() -> None:
    images = torch.rand(2, 3, 256, 512, dtype=torch.bfloat16)
    view = teacher_view(images, 16, 14)
    assert view.dtype == torch.bfloat16
    assert view.shape == (2, 3, 224, 448)
