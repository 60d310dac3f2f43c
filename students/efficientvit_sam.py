"""The image encoder of EfficientViT-SAM, in place of SAM's ViT.

Source: Z. Zhang et al., EfficientViT-SAM, 2024 (https://arxiv.org/abs/2402.05008), figure 2, and
github.com/mit-han-lab/efficientvit. The released encoder resamples its maps to 64 x 64 whatever the image; here they
meet on the grid of the finest one, which is the same at the released size and keeps the stride at any other.

Axes: B batch, C channels, H W pixels, h w grid.
"""

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from timm.layers import GELUTanh
from timm.models import FeatureInfo
from timm.models.efficientvit_mit import ConvNormAct, FusedMBConv, ResidualBlock
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import unknown_name
from distill.layers import match_grid
from distill.weights import load_matching, part_of, read_state_dict
from students.efficientvit import SAM_NORM_EPS, EfficientViT, run_blocks
from students.output_scale import AffineOutputScale
from students.released_efficientvit import split_released_efficientvit

_CHANNELS = 256  # of SAM's image embedding


@dataclass(frozen=True)
class _Variant:
    taps: tuple[int, int, int]
    depth: int
    expand: int


_VARIANTS = {
    "l0": _Variant((1, 2, 3), depth=4, expand=1),
    "l1": _Variant((1, 2, 3), depth=8, expand=1),
    "l2": _Variant((1, 2, 3), depth=12, expand=1),
    "xl0": _Variant((2, 3, 4), depth=6, expand=4),
    "xl1": _Variant((2, 3, 4), depth=12, expand=4),
}


class _Neck(nn.Module):
    """Three maps to one of 256 channels on the grid of the finest: projected, summed, convolved."""

    def __init__(self, channels: list[int], depth: int, expand: int, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        norm = partial(nn.BatchNorm2d, eps=SAM_NORM_EPS)
        self.project = nn.ModuleList(
            ConvNormAct(width, _CHANNELS, 1, norm_layer=norm, act_layer=None) for width in reversed(channels)
        )
        self.middle = nn.Sequential(
            *(
                ResidualBlock(
                    FusedMBConv(_CHANNELS, _CHANNELS, expand_ratio=expand, norm_layer=norm, act_layer=(GELUTanh, None)),
                    nn.Identity(),
                )
                for _ in range(depth)
            )
        )
        self.output = nn.Conv2d(_CHANNELS, _CHANNELS, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), the finest first, to (B, 256, h_0, w_0)."""
        grid = maps[0].shape[-2:]
        projected = [
            match_grid(project(x), grid, "bicubic") for project, x in zip(self.project, reversed(maps), strict=True)
        ]
        return self.output(run_blocks(self.middle, reduce(torch.add, projected), self.checkpointing))


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map (B, C, h, w), in float32: in fp16 its squares overflow."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        normalised = F.layer_norm(x.permute(0, 2, 3, 1).float(), self.normalized_shape, weight, bias, self.eps)
        return normalised.to(x.dtype).permute(0, 3, 1, 2)


class EfficientViTSAM(AffineOutputScale):
    """EfficientViT-SAM's encoder: one map of 256 channels, the shape of SAM's image embedding.

    At the released input, 512 px for L and 1024 px for XL, the map is (B, 256, 64, 64). It fits SAM's prompt encoder
    and mask decoder, and a SAM teacher's "neck" without an adapter.

    Args:
        variant: "l0", "l1", "l2" (stride 8), "xl0" or "xl1" (stride 16).
        half_resolution: Averages the image over 2 x 2 pixels first. With L, the 1024 px view of a SAM teacher then
            gives its 64 x 64 grid at the released 512 px, and the stride is 16 for every variant.
        attention_precision: See `EfficientViT`.
        checkpoint: A `student.safetensors` of this project or a released EfficientViT-SAM, whose prompt encoder and
            mask decoder are ignored.
        checkpointing: See `EfficientViT`; here of the neck's blocks too.

    Raises:
        UserError: Unknown variant or precision, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        variant: str = "l0",
        half_resolution: bool = False,
        attention_precision: str = "float32",
        checkpoint: str | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise unknown_name("EfficientViT-SAM variant", variant, _VARIANTS)
        config = _VARIANTS[variant]
        self.init_args = {
            "variant": variant,
            "half_resolution": half_resolution,
            "attention_precision": attention_precision,
        }
        self.half_resolution = half_resolution
        self.backbone = EfficientViT(
            variant,
            list(config.taps),
            norm_eps=SAM_NORM_EPS,
            attention_precision=attention_precision,
            checkpointing=checkpointing,
        )
        self.mean, self.std = self.backbone.mean, self.backbone.std
        info = self.backbone.feature_info
        self.neck = _Neck(list(info.channels()), config.depth, config.expand, checkpointing)
        self.norm = _ChannelNorm(_CHANNELS, eps=SAM_NORM_EPS)
        stride = info.reduction()[0] * (2 if half_resolution else 1)
        self.feature_info = FeatureInfo([{"num_chs": _CHANNELS, "reduction": stride, "module": "norm"}], (0,))
        if checkpoint is not None:
            self._load(checkpoint)

    @property
    def coarsest(self) -> int:
        """See `StudentBase`: that of the last map in the neck."""
        return self.backbone.coarsest * (2 if self.half_resolution else 1)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """The smallest variant, at the stride of SAM."""
        return {"variant": "l0", "half_resolution": True}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing of every block of backbone and neck on or off."""
        self.backbone.set_grad_checkpointing(enable)
        self.neck.checkpointing = enable

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W), any H and W, to [(B, 256, ceil(H / stride), ceil(W / stride))]."""
        if self.half_resolution:
            images = F.avg_pool2d(images, 2, ceil_mode=True)
        return [self.norm(self.neck(self.backbone(images)))]

    def output_norm(self) -> _ChannelNorm:
        """The norm after the last map."""
        return self.norm

    def _load(self, path: str) -> None:
        _, state = part_of(read_state_dict(path), self.state_dict(), path)
        parts = split_released_efficientvit(state)
        backbone = {f"backbone.{name}": tensor for name, tensor in parts.get("backbone", {}).items()}
        load_matching(self, backbone | parts.get("sam", {}), path)
