"""Binary masks of the instances in one image, without the empty space around them.

Axes: N instances, H W pixels of the image, K chosen instances.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.patch import Patch


class InstanceMasks:
    """Masks (N, H, W) stored as one small rectangle for each instance.

    2,000 vehicles in a view of 1024 px are 2 GiB as a bool tensor, and a few MiB here. Reads like that tensor: `len`,
    `shape`, `masks[index]`, iteration; what is read is dense.

    Args:
        pixels: The rectangles of all instances, one after the other, row by row: bool (P,).
        frames: Top, left, height and width of each rectangle.
        size: Height and width of the image.
    """

    def __init__(self, pixels: Tensor, frames: Sequence[tuple[int, int, int, int]], size: tuple[int, int]) -> None:
        self.pixels = pixels
        self.frames = list(frames)
        self.size = size
        self._starts = [0, *np.cumsum([height * width for _, _, height, width in self.frames]).tolist()]

    @classmethod
    def from_patches(cls, patches: Sequence[Patch], size: tuple[int, int]) -> "InstanceMasks":
        """The instances with these pixels."""
        flat = [patch.pixels.ravel() for patch in patches]
        pixels = torch.from_numpy(np.concatenate(flat) if flat else np.zeros(0, np.uint8)).bool()
        return cls(pixels, [(patch.top, patch.left, *patch.pixels.shape) for patch in patches], size)

    @classmethod
    def from_dense(cls, masks: Tensor) -> "InstanceMasks":
        """Masks (N, H, W) bool, on any device, each in the smallest rectangle that holds it."""
        size = (masks.shape[1], masks.shape[2])
        (top, bottom), (left, right) = (_extents(masks.any(dim=axis)) for axis in (2, 1))
        frames = torch.stack([top, left, bottom - top, right - left], dim=1).tolist()
        parts = [masks[n, y : y + h, x : x + w].flatten() for n, (y, x, h, w) in enumerate(frames)]
        return cls(torch.cat(parts) if parts else masks.new_zeros(0), [tuple(frame) for frame in frames], size)

    @classmethod
    def cat(cls, parts: "Sequence[InstanceMasks]") -> "InstanceMasks":
        """The instances of all parts, at least one, of one size and on one device."""
        frames = [frame for part in parts for frame in part.frames]
        return cls(torch.cat([part.pixels for part in parts]), frames, parts[0].size)

    @property
    def shape(self) -> torch.Size:
        """(N, H, W)."""
        return torch.Size((len(self), *self.size))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the pixels."""
        return self.pixels.dtype

    @property
    def device(self) -> torch.device:
        """The device of the pixels."""
        return self.pixels.device

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Tensor:
        """Bool (H, W) of one instance, or (K, H, W) of those that a slice, indices or flags (N,) choose."""
        if isinstance(index, tuple):
            return self.dense()[index]
        chosen = np.arange(len(self))[index.cpu().numpy() if isinstance(index, Tensor) else index]
        return self._dense(chosen.tolist()) if chosen.ndim else self._dense([int(chosen)])[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Bool (H, W), one instance after the other."""
        return (self[number] for number in range(len(self)))

    def dense(self) -> Tensor:
        """The masks as one bool tensor (N, H, W)."""
        return self._dense(range(len(self)))

    def patches(self) -> list[Patch]:
        """The smallest rectangle that holds each mask; of shape (0, 0) where a mask is empty."""
        pixels = self.pixels.cpu().numpy().view(np.uint8)
        parts = np.split(pixels, self._starts[1:-1]) if self.frames else []
        return [
            Patch(top, left, part.reshape(height, width)).trimmed()
            for part, (top, left, height, width) in zip(parts, self.frames, strict=True)
        ]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "InstanceMasks":
        """Moves the masks to a device."""
        return InstanceMasks(self.pixels.to(device, non_blocking=non_blocking), self.frames, self.size)

    def pin_memory(self) -> "InstanceMasks":
        """Copies the masks into page-locked memory, for copies that do not block."""
        return InstanceMasks(self.pixels.pin_memory(), self.frames, self.size)

    def _dense(self, numbers: Sequence[int]) -> Tensor:
        masks = self.pixels.new_zeros(len(numbers), *self.size)
        for mask, number in zip(masks, numbers, strict=True):
            top, left, height, width = self.frames[number]
            part = self.pixels[self._starts[number] : self._starts[number + 1]]
            mask[top : top + height, left : left + width] = part.view(height, width)
        return masks


def _extents(filled: Tensor) -> tuple[Tensor, Tensor]:
    """The first and one past the last True of each row of (N, L); 0 and 0 where there is none."""
    places = torch.arange(filled.shape[1], device=filled.device)
    last = torch.where(filled, places + 1, 0).amax(dim=1)
    return torch.where(filled, places, last[:, None]).amin(dim=1), last
