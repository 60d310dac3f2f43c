"""LALE's decoder: an all-MLP head that turns the maps of any student into per-pixel class logits.

Source: M. Çağlar, A. Temizel, LALE, ICMV 2026 (https://arxiv.org/abs/2606.02092), after SegFormer's
(https://arxiv.org/abs/2105.15203, equation 4). A reconstruction, see docs/students.md.

Axes: B batch, C channels, D decoder channels, K classes, M maps, H W pixels, h w grid of the finest map.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError
from distill.layers import STAR, StarReLU
from distill.weights import load_matching, read_state_dict
from heads.parts.ranges import require_at_least, require_share


class LALEDecoder(DecoderBase):
    """Projects every map to one width, fuses all at the finest grid and classifies each position.

    The fusing 1x1 convolution runs before the bilinear upsampling instead of after it, see `fuse`.

    Args:
        feature_info: Channels and strides of the student's maps, the finest first; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        channels: Decoder channels D.
        dropout: Probability with which a channel of the fused map is dropped in training.
        checkpoint: A state dict of this head.
        star_scale: Initial scale of StarReLU, see `students.LALE`.
        star_bias: Initial bias of StarReLU.

    Raises:
        UserError: No class names, maps that are not ordered from fine to coarse, a number out of range, or a checkpoint
            that does not fit.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        channels: int = 128,
        dropout: float = 0.1,
        checkpoint: str | None = None,
        star_scale: float = STAR[0],
        star_bias: float = STAR[1],
    ) -> None:
        super().__init__()
        if not class_names:
            raise UserError("LALEDecoder needs at least one class; the data names none")
        require_at_least(1, channels=channels)
        require_share(dropout=dropout)
        strides = list(feature_info.reduction())
        if strides != sorted(strides):
            raise UserError(
                f"LALEDecoder fuses at the first map, which must be the finest (got strides {strides}); "
                "let the student emit growing strides (`out_indices`)"
            )
        inputs = list(feature_info.channels())
        self.stride = strides[0]
        self.project = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.mix = nn.Conv2d(channels * len(inputs), channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = StarReLU(star_scale, star_bias)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, len(class_names), 1)
        self.apply(_initialise)
        if checkpoint is not None:
            load_matching(self, read_state_dict(checkpoint), checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {"channels": 32}

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps M features (B, C_i, h_i, w_i), the finest first, to logits (B, K, h, w) on the finest grid.

        Resizing to the image, bilinear in the paper, is the caller's.
        """
        fused = self.activation(self.norm(self.fuse(features)))
        logits: Tensor = self.classify(self.dropout(fused))
        return logits

    def fuse(self, features: list[Tensor]) -> Tensor:
        """The sum (B, D, h, w) of all maps, each projected and mixed on its own grid.

        A 1x1 convolution of concatenated maps is a sum of one per map, and each commutes with bilinear interpolation,
        whose weights sum to one: equal to `fuse_as_published` at a third of the multiply-adds.
        """
        grid = features[0].shape[-2:]
        weights = self.mix.weight.chunk(len(features), dim=1)
        levels = reversed(list(zip(self.project, features, weights, strict=True)))
        # Coarsest first and one at a time: a single map of the finest grid besides the sum is alive.
        return reduce(Tensor.add_, (_resize(F.conv2d(project(x), weight), grid) for project, x, weight in levels))

    def fuse_as_published(self, features: list[Tensor]) -> Tensor:
        """Reference implementation of `fuse`: upsamples, concatenates, then mixes."""
        grid = features[0].shape[-2:]
        projected = [project(feature) for project, feature in zip(self.project, features, strict=True)]
        fused: Tensor = self.mix(torch.cat([_resize(p, grid) for p in projected], dim=1))
        return fused


def _resize(x: Tensor, grid: torch.Size) -> Tensor:
    return x if x.shape[-2:] == grid else F.interpolate(x, grid, mode="bilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    """Keeps the scale of unit inputs, as the encoder does; the authors do not say theirs."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=module.in_channels**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
