"""EfficientViT's segmentation head: maps of three strides, summed on the finest grid, to class logits.

Source: H. Cai et al., EfficientViT, ICCV 2023 (https://arxiv.org/abs/2205.14756), section 3.2, and
github.com/mit-han-lab/efficientvit. Its weights were released, the code that trained them was not.

Axes: B batch, C channels, K classes, h w grid, H W pixels.
"""

from functools import partial, reduce
from typing import Any

import torch
from timm.layers import GELUTanh
from timm.models.efficientvit_mit import ConvNormAct, FusedMBConv, MBConv, ResidualBlock
from torch import Tensor, nn

from distill.contracts import DecoderBase, FeatureInfo
from distill.errors import UserError, unknown_name
from distill.layers import match_grid
from distill.weights import load_matching, read_state_dict
from heads.parts.ranges import require_at_least, require_share

_ACTIVATIONS = {"hardswish": nn.Hardswish, "gelu": GELUTanh}
_BLOCKS = {"mbconv": MBConv, "fused": FusedMBConv}


def _settings(
    width: int, depth: int, final_expand: int | None, block: str = "mbconv", expand: int = 4
) -> dict[str, Any]:
    large = block == "fused"
    return {
        "width": width,
        "depth": depth,
        "block": block,
        "expand": expand,
        "final_expand": final_expand,
        "activation": "gelu" if large else "hardswish",
        "norm_eps": 1e-7 if large else 1e-5,
    }


# Arguments of `SegHead` in the released models: `SegHead(info, class_names, **RELEASED["b0_cityscapes"])`.
RELEASED = {
    "b0_cityscapes": _settings(32, 1, 4),
    "b1_cityscapes": _settings(64, 3, 4),
    "b2_cityscapes": _settings(96, 3, 4),
    "b3_cityscapes": _settings(128, 3, 4),
    "l1_cityscapes": _settings(256, 3, None, "fused", expand=1),
    "l2_cityscapes": _settings(256, 5, None, "fused", expand=1),
    "b1_ade20k": _settings(64, 3, None),
    "b2_ade20k": _settings(96, 3, None),
    "b3_ade20k": _settings(128, 3, None),
    "l1_ade20k": _settings(128, 3, 8, "fused"),
    "l2_ade20k": _settings(128, 3, 8, "fused"),
}


class SegHead(DecoderBase):
    """Projects the last three maps to one width, sums them on the finest grid, and decodes that.

    The maps are resampled, bicubic and in float32 as released, to the grid they meet on, not by their stride: equal on
    multiples of the deepest stride, and defined for every other size.

    Args:
        feature_info: Channels and strides of the student's maps; the last three are read, or all where there are
            fewer; supplied by the framework.
        class_names: Classes of the data, in label order; supplied by the framework.
        width: Channels of the sum. The defaults are those of the released B0 for Cityscapes.
        depth: Residual blocks after the sum.
        block: "mbconv" or "fused".
        expand: Expansion ratio of the blocks.
        final_expand: Expansion ratio of a 1 x 1 convolution before the classifier; None leaves it out.
        activation: "hardswish" (B) or "gelu", in the tanh form (L).
        norm_eps: ε of the batch norms; the released weights need 1e-5 (B) and 1e-7 (L).
        dropout: Probability before the classifier.
        checkpoint: A state dict of this head.

    Raises:
        UserError: Unknown block or activation, no class names, a number out of range, or a checkpoint that does not
            fit.
    """

    def __init__(
        self,
        feature_info: FeatureInfo,
        class_names: list[str],
        width: int = 32,
        depth: int = 1,
        block: str = "mbconv",
        expand: int = 4,
        final_expand: int | None = 4,
        activation: str = "hardswish",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        if block not in _BLOCKS:
            raise unknown_name("SegHead block", block, _BLOCKS)
        if activation not in _ACTIVATIONS:
            raise unknown_name("SegHead activation", activation, _ACTIVATIONS)
        if not class_names:
            raise UserError("SegHead needs at least one class; the data names none")
        require_at_least(1, width=width, expand=expand)
        require_at_least(0, depth=depth, final_expand=final_expand or 0, norm_eps=norm_eps)
        require_share(dropout=dropout)
        channels = list(feature_info.channels())[-3:]
        self.stride = list(feature_info.reduction())[-len(channels)]
        norm, act = partial(nn.BatchNorm2d, eps=norm_eps), _ACTIVATIONS[activation]
        acts = (act, None) if block == "fused" else (act, act, None)
        self.project = nn.ModuleList(
            ConvNormAct(c, width, 1, norm_layer=norm, act_layer=None) for c in reversed(channels)
        )
        self.middle = nn.Sequential(
            *(
                ResidualBlock(
                    _BLOCKS[block](width, width, expand_ratio=expand, norm_layer=norm, act_layer=acts), nn.Identity()
                )
                for _ in range(depth)
            )
        )
        wide = width * (final_expand or 1)
        self.expand = ConvNormAct(width, wide, 1, norm_layer=norm, act_layer=act) if final_expand else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(wide, len(class_names), 1)
        if checkpoint is not None:
            load_matching(self, read_state_dict(checkpoint), checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """See `distill.contracts.Component`."""
        return {}

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), the deepest last, to logits (B, K, H / stride, W / stride).

        The stride is that of the finest of the three maps, 8 for an EfficientViT; resizing is the caller's.
        """
        finest, *deeper = features[-len(self.project) :]
        grid = finest.shape[-2:]
        maps = [*reversed(deeper), finest]
        projected = [match_grid(project(x), grid, "bicubic") for project, x in zip(self.project, maps, strict=True)]
        return self.classifier(self.dropout(self.expand(self.middle(reduce(torch.add, projected)))))
