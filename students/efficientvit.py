"""EfficientViT of MIT: convolutions, then multi-scale ReLU linear attention; cost and memory are linear in pixels.

Source: H. Cai et al., EfficientViT, ICCV 2023 (https://arxiv.org/abs/2205.14756) for B and L, Z. Zhang et al.,
EfficientViT-SAM, 2024 (https://arxiv.org/abs/2402.05008) for L0 and XL, and github.com/mit-han-lab/efficientvit. Built
from the blocks of timm's port, with its parameter names. timm has neither L0 nor XL (attention over 3 x 3 instead of
5 x 5 neighbourhoods, five stages), and another ε in the attention; here both ε are those the weights were trained with.

Not to be confused with Microsoft's EfficientViT (`efficientvit_m0` and so on in timm).

Axes: B batch, C channels, H W pixels or grid.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import GELUTanh
from timm.models import FeatureInfo
from timm.models.efficientvit_mit import ResidualBlock, Stem, build_local_block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from distill.contracts import StudentBase
from distill.errors import UserError, unknown_name
from distill.weights import load_matching, part_of, read_state_dict
from students.linear_attention import PRECISIONS, MultiScaleLinearAttention
from students.released_efficientvit import split_released_efficientvit

SAM_NORM_EPS = 1e-6


@dataclass(frozen=True)
class _Stage:
    """One halving of the grid.

    `shrink` and `expand` are the expansion ratios of the strided block and of those after it; with `bare`, only the
    last convolution of a block is normalised. Attention stages are always bare.
    """

    block: str  # "mbconv", "fused" or "attention"
    shrink: int
    expand: int
    bare: bool = False


@dataclass(frozen=True)
class _Series:
    stages: tuple[_Stage, ...]
    activation: type[nn.Module]
    norm_eps: float
    stem: str = "large"
    scale: int = 5


_B = _Series(
    (_Stage("mbconv", 4, 4),) * 2 + (_Stage("attention", 4, 4, bare=True),) * 2, nn.Hardswish, 1e-5, stem="default"
)
_L_STAGES = (
    _Stage("fused", 16, 4),
    _Stage("fused", 16, 4),
    _Stage("mbconv", 16, 4, bare=True),
    _Stage("attention", 24, 6, bare=True),
)
_L = _Series(_L_STAGES, GELUTanh, 1e-7)
_L_SAM = _Series(_L_STAGES, GELUTanh, SAM_NORM_EPS)
_XL = _Series(
    (
        *(_Stage("fused", 16, 4),) * 3,
        _Stage("attention", 16, 4, bare=True),
        _Stage("attention", 24, 6, bare=True),
    ),
    GELUTanh,
    SAM_NORM_EPS,
    scale=3,
)


@dataclass(frozen=True)
class _Variant:
    """Widths and numbers of blocks of the stem and the stages; a stage's strided block is not counted.

    The paper counts it in the first two stages of B and nowhere else.
    """

    series: _Series
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    head_dim: int = 32


_VARIANTS = {
    "b0": _Variant(_B, (8, 16, 32, 64, 128), (1, 1, 1, 2, 2), head_dim=16),
    "b1": _Variant(_B, (16, 32, 64, 128, 256), (1, 1, 2, 3, 4), head_dim=16),
    "b2": _Variant(_B, (24, 48, 96, 192, 384), (1, 2, 3, 4, 6)),
    "b3": _Variant(_B, (32, 64, 128, 256, 512), (1, 3, 5, 6, 9)),
    "l0": _Variant(_L_SAM, (32, 64, 128, 256, 512), (1, 1, 1, 4, 4)),  # released as an encoder of SAM alone
    "l1": _Variant(_L, (32, 64, 128, 256, 512), (1, 1, 1, 6, 6)),
    "l2": _Variant(_L, (32, 64, 128, 256, 512), (1, 2, 2, 8, 8)),
    "l3": _Variant(_L, (64, 128, 256, 512, 1024), (1, 2, 2, 8, 8)),
    "xl0": _Variant(_XL, (32, 64, 128, 256, 512, 1024), (0, 1, 1, 2, 3, 3)),
    "xl1": _Variant(_XL, (32, 64, 128, 256, 512, 1024), (1, 2, 2, 4, 6, 6)),
}


class EfficientViT(StudentBase):
    """EfficientViT as a feature pyramid: maps of stride 4, 8, 16 and 32, of XL also 64.

    Args:
        variant: "b0" to "b3" (activation: hardswish), "l0" to "l3" (tanh-GELU), "xl0" or "xl1".
        out_indices: Stages, counted from 0 and increasing, whose maps are returned; by default all. Stages after the
            last one are not built.
        norm_eps: ε of the batch norms. By default what the released weights of the variant were trained with: 1e-5
            for B, 1e-7 for L1 to L3, 1e-6 for L0 and XL. Encoders of EfficientViT-SAM need 1e-6. Another value
            degrades released L weights without an error.
        attention_eps: ε of the attention. The released models use 1e-15, timm's models 1e-5.
        attention_precision: "float32" computes the attention in float32 whatever the autocast, as released; "input"
            computes its matrix products in the half precision of autocast, safely.
        checkpoint: A `student.safetensors` of this project; a released state dict (classification, segmentation or
            EfficientViT-SAM), whose backbone is taken; or the state dict of the timm model.
        checkpointing: Whether training computes the inside of every block again in the backward pass instead of keeping
            it: the same gradients in less memory. Batch norms then see each batch twice, so their running statistics
            follow the data faster.

    Raises:
        UserError: Unknown variant or precision, indices out of range, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        variant: str = "b0",
        out_indices: list[int] | None = None,
        norm_eps: float | None = None,
        attention_eps: float = 1e-15,
        attention_precision: str = "float32",
        checkpoint: str | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise unknown_name("EfficientViT variant", variant, _VARIANTS)
        if attention_precision not in PRECISIONS:
            raise unknown_name("EfficientViT attention_precision", attention_precision, PRECISIONS)
        config = _VARIANTS[variant]
        series, depth = config.series, len(config.series.stages)
        taps = list(range(depth)) if out_indices is None else list(out_indices)
        if not taps or taps != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < depth:
            raise UserError(
                f"EfficientViT out_indices is {taps}; EfficientViT {variant!r} allows increasing numbers "
                f"from 0 to {depth - 1}"
            )
        self.init_args = {
            "variant": variant,
            "out_indices": out_indices,
            "norm_eps": norm_eps,
            "attention_eps": attention_eps,
            "attention_precision": attention_precision,
        }
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.checkpointing = checkpointing
        self._taps = taps
        self._norm_eps = series.norm_eps if norm_eps is None else norm_eps
        self.feature_info = FeatureInfo(
            [
                {"num_chs": width, "reduction": 4 * 2**i, "module": f"stages.{i}"}
                for i, width in enumerate(config.widths[1 : taps[-1] + 2])
            ],
            tuple(taps),
        )
        attention = partial(
            MultiScaleLinearAttention,
            head_dim=config.head_dim,
            scales=(series.scale,),
            norm_eps=self._norm_eps,
            eps=attention_eps,
            precision=attention_precision,
        )
        norm = partial(nn.BatchNorm2d, eps=self._norm_eps)
        convolution = partial(build_local_block, norm_layer=norm, act_layer=series.activation)
        self.stem = Stem(3, config.widths[0], config.blocks[0], norm, series.activation, block_type=series.stem)
        self.stages = nn.ModuleList(
            _build_stage(stage, config.widths[i], config.widths[i + 1], config.blocks[i + 1], convolution, attention)
            for i, stage in enumerate(series.stages[: taps[-1] + 1])
        )
        if checkpoint is not None:
            self._load(checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """The smallest variant."""
        return {"variant": "b0"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing of every block on or off."""
        self.checkpointing = enable

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W), any H and W, to maps (B, C_i, ceil(H / s_i), ceil(W / s_i))."""
        x = self.stem(images)
        maps = []
        for index, stage in enumerate(self.stages):
            x = run_blocks(stage.get_submodule("blocks"), x, self.checkpointing)
            if index in self._taps:
                maps.append(x)
        return maps

    def _load(self, path: str) -> None:
        state = read_state_dict(path)
        parts = split_released_efficientvit(state)
        if "sam" in parts and self._norm_eps != SAM_NORM_EPS:
            raise UserError(
                f"checkpoint {path!r} is an EfficientViT-SAM, trained with a norm ε of {SAM_NORM_EPS}, the student has "
                f"{self._norm_eps}; set the student's norm_eps to {SAM_NORM_EPS}"
            )
        # Neither timm's classifier nor stages after the last tap are part of the student.
        depth = len(_VARIANTS[str(self.init_args["variant"])].series.stages)
        unused = ("head.", *(f"stages.{index}." for index in range(len(self.stages), depth)))
        backbone = parts["backbone"] if "backbone" in parts else part_of(state, self.state_dict(), path)[1]
        own = {name: t for name, t in backbone.items() if not name.startswith(unused)}
        load_matching(self, own, path)


def run_blocks(blocks: nn.Module, x: Tensor, checkpointing: bool) -> Tensor:
    """Applies the children of a module in turn; with `checkpointing`, training keeps only their inputs."""
    for block in blocks.children():
        if checkpointing and torch.is_grad_enabled():
            # A block draws nothing at random, so there is no state of generators to restore.
            x = recompute_in_backward(block, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = block(x)
    return x


def _build_stage(
    stage: _Stage,
    in_channels: int,
    channels: int,
    blocks: int,
    convolution: Callable[..., nn.Module],
    attention: Callable[..., nn.Module],
) -> nn.Module:
    """A strided block without a shortcut, then `blocks` residual ones, under timm's names."""
    kind = "fused" if stage.block == "fused" else "default"

    def local(in_channels: int, stride: int, expand: int) -> nn.Module:
        return convolution(in_channels, channels, stride, expand, fewer_norm=stage.bare, block_type=kind)

    modules: list[nn.Module] = [ResidualBlock(local(in_channels, 2, stage.shrink))]
    for _ in range(blocks):
        block: nn.Module = ResidualBlock(local(channels, 1, stage.expand), nn.Identity())
        if stage.block == "attention":
            context = ResidualBlock(attention(channels), nn.Identity())
            block = nn.Sequential(OrderedDict(context_module=context, local_module=block))
        modules.append(block)
    return nn.Sequential(OrderedDict(blocks=nn.Sequential(*modules)))
