"""Resizes the view of a teacher, so that its cells and the student's divide the same extent.

Axes: B batch, H W pixels.
"""

import math

from torch import Tensor
from torch.nn import functional as F

_RANGE = (0.75, 4 / 3)  # how much smaller or larger than the student's the teacher's view may be


def teacher_view(images: Tensor, stride: int, patch: int, image_size: int | None = None) -> Tensor:
    """Resizes images for a teacher whose grid would not span the student's extent.

    A student of stride 16 divides 512 px into 32 cells. A teacher of patch 14 would pad 512 px to 518 and divide those
    into 37 cells, so that equal places of the two grids lie up to 6 px apart. It gets 448 px instead: 32 cells of the
    same places.

    Where the two grids span the same extent as they are, as with any patch that divides the view, the images are
    returned unchanged.

    With an `image_size` the teacher sees what the student does, smaller or larger: as many whole cells as come nearest
    to that side span what the student's cells do.

    Args:
        images: RGB in [0, 1], of shape (B, 3, H, W).
        stride: The student's, in pixels: it divides a side of H pixels into ceil(H / stride) cells.
        patch: Side of a cell of the teacher's map, in pixels.
        image_size: Longer side of the teacher's view, in pixels; None for that of the images.

    Returns:
        Images (B, 3, H', W'). Where they are resized, H' and W' are multiples of `patch`, and the teacher's cells are
        as many as the student's, or a multiple or divisor of them, if such a number changes the side by less than a
        third; else as many as come nearest to the side.
    """
    sides = (images.shape[-2], images.shape[-1])
    if image_size is None and _same_extent(sides, stride, patch):
        return images
    (height, width), extent = sides, extents(sides, stride)
    if sides != extent:
        # What the student pads at the bottom and the right. Of the teacher, no mean colour is known here.
        images = F.pad(images, (0, extent[1] - width, 0, extent[0] - height), mode="replicate")
    size = view_size(sides, stride, patch, image_size)
    if size == extent:
        return images
    # In float32: antialiasing does not exist in bfloat16 on a CPU.
    resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized.to(images.dtype)


def shown_size(sides: tuple[int, int], stride: int, patch: int, image_size: int | None = None) -> tuple[int, int]:
    """The extent of images of size (H, W) in the teacher's view, padding included, in pixels; see `teacher_view`."""
    return sides if image_size is None and _same_extent(sides, stride, patch) else extents(sides, stride)


def view_size(sides: tuple[int, int], stride: int, patch: int, image_size: int | None = None) -> tuple[int, int]:
    """The size (H', W') of the teacher's view of images of size (H, W); see `teacher_view`."""
    rows, columns = extents(sides, stride)
    if image_size is not None:
        scale = image_size / max(rows, columns) / patch
        return patch * max(1, round(scale * rows)), patch * max(1, round(scale * columns))
    if _same_extent(sides, stride, patch):
        return sides
    return _side(rows, stride, patch), _side(columns, stride, patch)


def _same_extent(sides: tuple[int, int], stride: int, patch: int) -> bool:
    """Whether the teacher's cells and the student's cover the same pixels, padding included."""
    return extents(sides, patch) == extents(sides, stride)


def extents(sides: tuple[int, int], step: int) -> tuple[int, int]:
    """The extent that cells of side `step` cover, padding included, in pixels."""
    return _ceil(sides[0], step), _ceil(sides[1], step)


def _side(extent: int, stride: int, patch: int) -> int:
    """The side of the teacher's view, in pixels, that stands for `extent` pixels of the student's."""
    if extent % patch == 0:
        return extent
    cells = extent // stride
    low, high = (bound * extent / patch for bound in _RANGE)
    multiples = [cells * k for k in range(1, math.floor(high / cells) + 1)]
    divisors = [cells // k for k in range(2, cells + 1) if cells % k == 0]
    fitting = [count for count in (*multiples, *divisors) if low <= count <= high]
    wanted = extent / patch
    return patch * min(fitting, key=lambda count: abs(math.log(count / wanted)), default=max(1, round(wanted)))


def _ceil(side: int, step: int) -> int:
    return -(-side // step) * step
