"""Land cover as one graph: normalisation, student, decoder, and logits at the size of the image.

Axes: K classes, C channels, H W pixels of the network's input, h w grid of a map, n bins along a side.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from distill.contracts import DecoderBase
from distill.errors import UserError
from distill.evaluation.sliding_window import resize_logits
from distill.exported.facts import LOGITS, OUTPUTS
from distill.exporters.graph import ExportGraph
from distill.tasks.segmentation import SegmentationModule


class LandCoverGraph(ExportGraph):
    """Logits (1, K, H, W) of an image (1, 3, H, W), or on the grid of the decoder.

    H and W are any numbers, as in a run: an image that is padded to whole strides has other logits.

    Args:
        task: Fine-tuned, with its decoder built.
        resized: Whether the logits are resized to the image. Where images are zoomed before the network, whoever runs
            the graph resizes them once, from the grid of the decoder to the image as it was.

    Raises:
        UserError: A group norm of the decoder has one channel a group, which PyTorch refuses for a map of one position,
            and a graph of any size has such maps.
    """

    outputs = OUTPUTS[LOGITS]
    kind = LOGITS

    def __init__(self, task: SegmentationModule, resized: bool = True) -> None:
        assert isinstance(task.head, DecoderBase)
        super().__init__(task.student, task.head)
        _require_groups(task.head)
        self.decoder, self.resized, self.stride = with_computed_bins(task.head), resized, 1
        self.eval()

    def example(self) -> tuple[Tensor, ...]:
        """An image whose sides are multiples of nothing."""
        return (torch.rand(1, 3, 6 * self.coarsest + 1, 10 * self.coarsest + 3),)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """The logits, float32."""
        logits: Tensor = self.decoder(self.features(image))
        return (resize_logits(logits, (image.shape[-2], image.shape[-1])) if self.resized else logits.float(),)


class MeanOfBins(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two matrix products, which a graph holds for sizes that vary.

    Args:
        bins: n along the height and the width.
    """

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, h, w) to the means of their bins (B, C, n, n)."""
        rows, columns = (_shares(side, bins, maps) for side, bins in zip(maps.shape[-2:], self.bins, strict=True))
        return rows @ (maps @ columns.T)


def with_computed_bins(decoder: nn.Module) -> nn.Module:
    """A copy of a decoder, whose adaptive pooling holds for sizes that vary; without any, the decoder itself."""
    if not any(isinstance(part, nn.AdaptiveAvgPool2d) for part in decoder.modules()):
        return decoder
    copied = deepcopy(decoder)
    for part in list(copied.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size: Any = child.output_size
                setattr(part, name, MeanOfBins((size, size) if isinstance(size, int) else size))
    return copied


def _require_groups(decoder: DecoderBase) -> None:
    for part in decoder.modules():
        if isinstance(part, nn.GroupNorm) and part.num_groups == part.num_channels:
            raise UserError(
                f"{decoder.class_path} cannot be exported: {part.num_groups} groups of a norm have one channel each; "
                f"train it with {2 * part.num_channels} channels there, for example model.head.segmentation_channels"
            )


def _shares(side: int, bins: int, like: Tensor) -> Tensor:
    """The share (n, side) of each cell in each bin, whose borders PyTorch rounds outwards."""
    numbers = torch.arange(bins, device=like.device).unsqueeze(1)
    first, end = numbers * side // bins, ((numbers + 1) * side + bins - 1) // bins
    cells = torch.arange(side, device=like.device)
    return ((cells >= first) & (cells < end)).to(like.dtype) / (end - first)
