"""RS4D's student: a plain, isotropic Mamba backbone that scans the image tokens forwards and backwards.

Source: Q. Yang, K. Chen, J. Xu, Z. Shi, Z. Zou, RS4D, IEEE TGRS 2026 (https://arxiv.org/abs/2606.25324), and its
released code (github.com/QinzheYang/RS4D), whose function this file reproduces: one shared norm before every mixer, one
mixer per layer used in both directions, the mean of both, a residual, and a final norm after the last layer only.
Differences:

- The two directions share the input projection, the gate and the output projection, which act on each token alone. The
  original runs the whole mixer twice; the result is the same at about half the multiply-adds.
- Δ, A and the output projection start as Mamba defines them. The original leaves Δ near 0.7, a memory of one token.
- Any image size: the position embedding is interpolated; the original accepts 1024 x 1024 only.

Axes: B batch, C embedding channels, E inner channels, N states, R rank of Δ, L tokens, h w token grid, H W pixels.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import trunc_normal_
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from distill.contracts import Corrupt
from distill.errors import UserError, unknown_name
from distill.layers import pad_to_multiple, resize
from distill.linear import Linear
from distill.weights import load_matching, part_of, read_metadata, read_state_dict
from students.output_scale import AffineOutputScale
from students.released_rs4d import check_metadata, convert_released_state_dict
from students.scan import bidirectional_conv1d, selective_scan_2d
from students.scan.backends import NAMES as SCAN_BACKENDS

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_UNDECAYED = ("A_log", "D", "dt_proj.bias")  # of a mixer


@dataclass(frozen=True)
class _Variant:
    dim: int
    layers: int
    inner: int
    states: int = 16
    rank: int = 16


_VARIANTS = {
    "tiny": _Variant(dim=192, layers=6, inner=192, states=8, rank=12),  # this project's; the others are RS4D's
    "small": _Variant(dim=256, layers=16, inner=512),
    "base": _Variant(dim=256, layers=24, inner=512),
    "large": _Variant(dim=256, layers=28, inner=640),
    "huge": _Variant(dim=256, layers=32, inner=640),
}


class BidirectionalMixer(nn.Module):
    """Mamba's mixer with one set of weights for both directions; returns the mean of the directions.

    Source: Mamba (https://arxiv.org/abs/2312.00752), figure 3, with the initialisation of its section 3.6 and code.

    Args:
        dim: Token channels C.
        inner: Inner channels E.
        states: States N per inner channel.
        rank: Rank R of the projection to Δ.
        layers: Depth of the network: the output projection starts at 1/sqrt(layers) of its usual scale.
        scan_backend: See `RS4D`.
    """

    _KERNEL = 4
    _DELTA_RANGE = (1e-3, 1e-1)

    def __init__(self, dim: int, inner: int, states: int, rank: int, layers: int, scan_backend: str = "auto") -> None:
        super().__init__()
        self.split, self.scan_backend = (rank, states, states), scan_backend
        self.in_proj = Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, self._KERNEL, groups=inner)
        self.x_proj = Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, states + 1, dtype=torch.float32)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = Linear(inner, dim, bias=False)
        with torch.no_grad():
            self.out_proj.weight.div_(math.sqrt(layers))
            self.dt_proj.weight.uniform_(-(rank**-0.5), rank**-0.5)
            low, high = (math.log(bound) for bound in self._DELTA_RANGE)
            delta = torch.empty(inner).uniform_(low, high).exp()
            self.dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus of it is delta

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (B, L, C) to tokens (B, L, C)."""
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        x = bidirectional_conv1d(x, self.conv1d.weight.squeeze(1), self.conv1d.bias, "silu")  # (B, 2, L, E)
        # One row of an image, (B, 1, L, 2, ...): back and forth along a raster, the second dimension does not show.
        u, low_rank, B, C = (
            part.transpose(1, 2).unsqueeze(1) for part in (x, *self.x_proj(x).split(self.split, dim=-1))
        )
        y = selective_scan_2d(
            u,
            low_rank,
            -torch.exp(self.A_log),
            B,
            C,
            self.D,
            gate.unsqueeze(1),
            self.dt_proj.bias,
            delta_softplus=True,
            delta_weight=self.dt_proj.weight.expand(2, -1, -1),
            order="bidirectional",
            merge="mean",
            backend=self.scan_backend,
        )
        return self.out_proj(y.squeeze(1))


class RS4D(AffineOutputScale):
    """RS4D's backbone: maps of stride `patch_size`; the last one is normalised and is distilled.

    Args:
        variant: "tiny" (of this project), "small", "base", "large" or "huge".
        image_size: Side in pixels of the square the position embedding is stored for; inputs may have any size.
        patch_size: Side of a patch in pixels, the stride of every map.
        out_indices: Layers, counted from 0 and increasing, whose residual streams are returned; by default every second
            one from 1, as the released Mask R-CNN models tap it. The last layer is always returned, normalised.
        frozen_layers: With n > 0 the patch embedding, the position embedding, the shared norm and the first n layers
            are not trained; with n equal to the depth, nothing is.
        checkpoint: A `student.safetensors` of this project or a released RS4D state dict.
        scan_backend: Which implementation of the scan runs: "auto" or a name that `distill doctor` lists.
        checkpointing: Whether training keeps only the input of every trained layer and computes the rest again in the
            backward pass: the same gradients in a fraction of the memory, for one more forward pass.

    Raises:
        UserError: Unknown variant or scan backend, indices or sizes out of range, or a checkpoint that does not fit.
    """

    operator_modules = ("students.scan",)

    def __init__(
        self,
        variant: str = "small",
        image_size: int = 1024,
        patch_size: int = 16,
        out_indices: list[int] | None = None,
        frozen_layers: int = 0,
        checkpoint: str | None = None,
        scan_backend: str = "auto",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise unknown_name("RS4D variant", variant, _VARIANTS)
        if scan_backend not in SCAN_BACKENDS:
            raise unknown_name("RS4D scan_backend", scan_backend, SCAN_BACKENDS)
        config = _VARIANTS[variant]
        if patch_size < 1 or image_size < patch_size or image_size % patch_size:
            raise UserError(
                f"RS4D image_size {image_size} and patch_size {patch_size} do not fit: "
                "image_size must be a positive multiple of patch_size"
            )
        if not 0 <= frozen_layers <= config.layers:
            raise UserError(f"RS4D frozen_layers is {frozen_layers}; RS4D {variant!r} allows 0 to {config.layers}")
        taps = list(range(1, config.layers, 2)) if out_indices is None else list(out_indices)
        if taps != sorted(set(taps)) or (taps and not 0 <= taps[0] <= taps[-1] < config.layers):
            raise UserError(
                f"RS4D out_indices is {taps}; RS4D {variant!r} allows increasing numbers from 0 to {config.layers - 1}"
            )
        self.init_args = {
            "variant": variant,
            "image_size": image_size,
            "patch_size": patch_size,
            "out_indices": out_indices,
        }
        self.mean, self.std = _MEAN, _STD
        self.token_channels, self.patch_size, self.frozen_layers = config.dim, patch_size, frozen_layers
        self.checkpointing = checkpointing
        self._taps = [*taps, *([config.layers - 1] if config.layers - 1 not in taps else [])]
        self.feature_info = FeatureInfo(
            [{"num_chs": config.dim, "reduction": patch_size, "module": f"layers.{i}"} for i in range(config.layers)],
            tuple(self._taps),
        )

        self.patch_embed = nn.Conv2d(3, config.dim, patch_size, patch_size, bias=False)
        self.pos_embed = nn.Parameter(torch.empty(1, config.dim, image_size // patch_size, image_size // patch_size))
        trunc_normal_(self.pos_embed, std=0.02)
        self.pre_norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.layers = nn.ModuleList(
            BidirectionalMixer(config.dim, config.inner, config.states, config.rank, config.layers, scan_backend)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        if checkpoint is not None:
            self._load(checkpoint)
        self._freeze()

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """A tiny variant for small images."""
        return {"variant": "tiny", "image_size": 64, "patch_size": 8}

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W) to maps (B, C, h, w), h = ceil(H / patch_size): the taps, then the last.

        Args:
            images: Any H and W; padded with zeros at the bottom and right to whole patches.
        """
        return self._maps(images)[0]

    def forward_corrupted(self, images: Tensor, corrupt: Corrupt) -> tuple[list[Tensor], Tensor]:
        """As `forward`, with the tokens (B, h w, C) corrupted between patch and position embedding."""
        maps, touched = self._maps(images, corrupt)
        assert touched is not None
        return maps, touched

    def _maps(self, images: Tensor, corrupt: Corrupt | None = None) -> tuple[list[Tensor], Tensor | None]:
        images = pad_to_multiple(images, self.patch_size)
        with self._gradients(0):
            patches = self.patch_embed(images)
            position = self._position(patches.shape[2], patches.shape[3])
        grid = patches.shape[2:]
        x, touched = patches.flatten(2).transpose(1, 2), None
        if corrupt is not None:
            x, touched = corrupt(x)
        x = (x + position.flatten(2).transpose(1, 2)).contiguous()  # else every layer norm copies it
        maps = []
        for index in range(len(self.layers)):
            with self._gradients(index):
                if self.checkpointing and torch.is_grad_enabled():
                    # A layer draws nothing at random, so there is no state of generators to restore.
                    x = recompute_in_backward(self._layer, index, x, use_reentrant=False, preserve_rng_state=False)
                else:
                    x = self._layer(index, x)
            if index in self._taps:
                maps.append(x.transpose(1, 2).unflatten(2, grid))
        return maps, touched

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would harm: the position embedding, A_log, D and the bias of Δ."""
        mixers = (f"layers.{index}.{name}" for index in range(len(self.layers)) for name in _UNDECAYED)
        return {"pos_embed", *mixers}

    def onnx_operators(self) -> Mapping[OpOverload, Callable[..., Any]]:
        """Translations of the scan and of the convolution before it."""
        from students.scan.onnx import scan_translations  # needs the packages of the extra `onnx`

        return scan_translations()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing of every trained layer on or off."""
        self.checkpointing = enable

    def output_norm(self) -> nn.LayerNorm:
        """The norm after the last map."""
        return self.norm

    def _layer(self, index: int, x: Tensor) -> Tensor:
        """One layer on tokens (B, L, C); the last one ends in the final norm."""
        x = x + self.layers[index](self.pre_norm(x))
        return self.norm(x) if index == len(self.layers) - 1 else x

    def _gradients(self, layer: int) -> torch.no_grad | nullcontext[None]:
        return torch.no_grad() if layer < self.frozen_layers else nullcontext()

    def _freeze(self) -> None:
        if not self.frozen_layers:
            return
        frozen = [self.patch_embed, self.pre_norm, *self.layers[: self.frozen_layers]]
        if self.frozen_layers == len(self.layers):
            frozen.append(self.norm)
        self.pos_embed.requires_grad_(False)
        for module in frozen:
            module.requires_grad_(False)

    def _position(self, height: int, width: int) -> Tensor:
        """The position embedding (1, C, h, w) of a token grid."""
        return _interpolate(self.pos_embed, (height, width))

    def _load(self, path: str) -> None:
        check_metadata(path, read_metadata(path), self.init_args)
        _, state = part_of(read_state_dict(path), self.state_dict(), path)
        state = convert_released_state_dict(state)
        position = state.get("pos_embed")
        if position is not None and position.dim() == 4 and position.shape[:2] == self.pos_embed.shape[:2]:
            state["pos_embed"] = _interpolate(position, self.pos_embed.shape[2:])
        load_matching(self, state, path)


def _interpolate(position: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
    # Sizes that vary in an exported program must not be compared: that would pin them to those of the example.
    if all(statically_known_true(own == other) for own, other in zip(position.shape[2:], grid, strict=True)):
        return position
    return resize(position, grid, "bicubic", antialias=True)
