"""LALE's encoder: ConvMixer blocks at strides 4 and 8, transformer blocks at strides 16 and 32.

Source: M. Çağlar, A. Temizel, LALE, ICMV 2026 (https://arxiv.org/abs/2606.02092). A reconstruction from the paper,
written independently of the authors' code (github.com/caglarmert/LALE) and compared with it by parameter counts alone.
The paper gives the four stages, their kinds of block and channels, the stem, RMSNorm, StarReLU and the decoder; depths
and expansion are the ones that reproduce its sizes and multiply-adds. See docs/students.md.

Axes: B batch, C channels, N tokens, H W pixels, h w grid of one map.
"""

import math
from functools import partial
from typing import Any

import torch
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from distill.contracts import Corrupt
from distill.errors import UserError, unknown_name
from distill.layers import STAR, StarReLU
from distill.weights import load_matching, read_state_dict
from students.lale_blocks import ConvMixerBlock, RMSNorm2d, TransformerBlock
from students.output_scale import OutputScale

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DEPTHS = {"S1": 1, "S2": 2, "S3": 3, "S4": 4}  # blocks of every stage
_STEM, _CHANNELS, _STRIDES = 16, (32, 64, 128, 256), (4, 8, 16, 32)
_TOKEN = 4  # side of a corrupted token in positions of the stem: 16 pixels


class LALE(OutputScale):
    """LALE's encoder (a reconstruction): maps of 32, 64, 128 and 256 channels at strides 4, 8, 16 and 32, normalised.

    Attributes:
        token_channels: Of a token for corruption: the 32 of the stem at the 4 x 4 positions of a patch of 16 pixels.

    Args:
        variant: "S1", "S2", "S3" or "S4", in either case: as many blocks per stage.
        kernel_size: Side of the stride-2 convolutions between the stages, 3 or 7.
        checkpoint: Weights of a `LALE`, for example a `student.safetensors`.
        star_scale: Initial scale of every StarReLU. By default, with `star_bias`, a standard normal input keeps its
            mean and variance; MetaFormer's code starts at 1 and 0, and what LALE's authors chose is unknown.
        star_bias: Initial bias of every StarReLU.
        checkpointing: Whether training keeps only the input of the stem and of every stage and computes the rest again
            in the backward pass: the same gradients in a fraction of the memory, for one more forward pass.

    Raises:
        UserError: Unknown variant, another kernel size, or a checkpoint that does not fit.
    """

    def __init__(
        self,
        variant: str = "S1",
        kernel_size: int = 3,
        checkpoint: str | None = None,
        star_scale: float = STAR[0],
        star_bias: float = STAR[1],
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if variant.upper() not in _DEPTHS:
            raise unknown_name("LALE variant", variant, _DEPTHS)
        if kernel_size not in (3, 7):
            raise UserError(f"LALE kernel_size is {kernel_size}; LALE's downsampling allows 3 or 7")
        self.init_args = {"variant": variant.upper(), "kernel_size": kernel_size}
        self.mean, self.std = _MEAN, _STD
        self.checkpointing = checkpointing
        self.token_channels = _CHANNELS[0] * _TOKEN**2
        self.feature_info = FeatureInfo(
            [
                {"num_chs": channels, "reduction": stride, "module": f"stages.{index}"}
                for index, (channels, stride) in enumerate(zip(_CHANNELS, _STRIDES, strict=True))
            ],
            tuple(range(len(_CHANNELS))),
        )

        self.stem = nn.Sequential(
            nn.Conv2d(3, _STEM, 3, 2, 1),
            RMSNorm2d(_STEM),
            StarReLU(),
            nn.Conv2d(_STEM, _CHANNELS[0], 3, 2, 1),
            RMSNorm2d(_CHANNELS[0]),
            StarReLU(),
        )
        depth = _DEPTHS[variant.upper()]
        self.stages = nn.ModuleList(_stage(index, depth, kernel_size) for index in range(len(_CHANNELS)))
        self.norms = nn.ModuleList(RMSNorm2d(channels) for channels in _CHANNELS)
        self.apply(partial(_initialise, star=(star_scale, star_bias)))
        if checkpoint is not None:
            load_matching(self, read_state_dict(checkpoint), checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """The smallest variant."""
        return {"variant": "S1"}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W), any H and W, to maps (B, C_i, h_i, w_i), h_i = ceil(H / stride_i)."""
        return self._maps(images)[0]

    def forward_corrupted(self, images: Tensor, corrupt: Corrupt) -> tuple[list[Tensor], Tensor]:
        """As `forward`, with the stem's tokens (B, N, C) corrupted, N = ceil(H / 16) ceil(W / 16)."""
        maps, touched = self._maps(images, corrupt)
        assert touched is not None
        return maps, touched

    def _maps(self, images: Tensor, corrupt: Corrupt | None = None) -> tuple[list[Tensor], Tensor | None]:
        # Whatever the format of the weights: on CPUs 1.4 times the speed, and attention's tokens need no copy.
        x = self._run(self.stem, images.contiguous(memory_format=torch.channels_last))
        touched = None
        if corrupt is not None:
            x, touched = _corrupt_patches(x, corrupt)
        maps = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = self._run(stage, x)
            maps.append(norm(x))
        return (list(_Together.apply(*maps)) if self.training else maps), touched

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing of the stem and every stage on or off."""
        self.checkpointing = enable

    def output_norm(self) -> RMSNorm2d:
        """The norm after the last map."""
        norm: RMSNorm2d = self.norms[-1]  # type: ignore[assignment]
        return norm

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # No part draws at random, so there is no state of generators to restore.
            x = recompute_in_backward(part, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = part(x)
        return x


class _Together(torch.autograd.Function):
    """Returns the maps unchanged; maps that a loss does not read get a gradient of zero.

    Each map has a norm of its own. Several processes wait for the gradient of every parameter, and a loss that reads
    the last map alone would leave the other norms without one.
    """

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


def _stage(index: int, depth: int, kernel_size: int) -> nn.Sequential:
    channels = _CHANNELS[index]
    block = ConvMixerBlock if index < 2 else TransformerBlock
    stage = nn.Sequential()
    if index:
        convolution = nn.Conv2d(_CHANNELS[index - 1], channels, kernel_size, 2, kernel_size // 2)
        stage.add_module("downsample", nn.Sequential(convolution, RMSNorm2d(channels)))
    stage.add_module("blocks", nn.Sequential(*(block(channels) for _ in range(depth))))
    return stage


def _initialise(module: nn.Module, star: tuple[float, float]) -> None:
    """Starts StarReLUs at `star`, biases at zero, and every convolution at a scale that keeps that of its input.

    The authors do not say theirs. Pointwise kernels have a variance of 1 / inputs, since StarReLU wants inputs of unit
    variance, which after an RMSNorm the usual standard deviation of 0.02 would shrink to a tenth. The others are
    Kaiming's by fan-out.
    """
    if isinstance(module, StarReLU):
        nn.init.constant_(module.scale, star[0])
        nn.init.constant_(module.bias, star[1])
    if isinstance(module, nn.Conv2d):
        area = module.kernel_size[0] * module.kernel_size[1]
        # nn.init.kaiming_normal_ overlooks that a channel of a depthwise convolution has a single output.
        variance = 1 / module.in_channels if area == 1 else 2 * module.groups / (area * module.out_channels)
        nn.init.normal_(module.weight, std=math.sqrt(variance))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _corrupt_patches(x: Tensor, corrupt: Corrupt) -> tuple[Tensor, Tensor]:
    """Applies `corrupt` to the stem's map (B, C, h, w) in tokens of 4 x 4 positions.

    A token of one position could be inferred from its neighbours by the next depthwise convolution.
    """
    height, width = x.shape[-2:]
    patches = F.pixel_unshuffle(F.pad(x, (0, -width % _TOKEN, 0, -height % _TOKEN)), _TOKEN)
    tokens, touched = corrupt(patches.flatten(2).transpose(1, 2))
    patches = tokens.transpose(1, 2).unflatten(2, patches.shape[2:])
    return F.pixel_shuffle(patches, _TOKEN)[..., :height, :width], touched
