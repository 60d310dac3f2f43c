"""SAM's image encoder, computed with few copies, from the weights of timm's module.

timm pads windows before the first projection, stores the position bias of each attention, and adds residuals out of
place. Here padding comes after the projection, where it equals the bias, with the one copy that makes windows;
attention is that of `sam_attention`; and the tokens are one float32 tensor to which every block adds in place. No
gradients.

Axes: B batch, C channels, H W pixels, h w patches, N = h w tokens, n heads, c channels of a head.
"""

from contextlib import nullcontext
from itertools import product
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed_nhwc
from torch import Tensor
from torch.nn import functional as F

from distill.linear import linear
from teachers.sam_attention import attend


class Encoder:
    """SAM's encoder, equal to `forward_intermediates` of timm's `VisionTransformerSAM`.

    Args:
        model: timm's module. Its float32 weights are used where they are; make another encoder when they change.
        dtype: In which the blocks multiply and attend. For bfloat16 their linear layers are copied once; tokens, norms,
            patch embedding and neck stay in float32: they take little of the time, and half of the error.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype
        self._blocks = [_Block(block, dtype) for block in model.blocks]
        self._positions: Tensor = model.pos_embed  # (1, h, w, C), of the grid seen last

    def __call__(self, images: Tensor, indices: list[int]) -> tuple[Tensor, list[Tensor]]:
        """Computes the neck, and the outputs of some blocks.

        Args:
            images: (B, 3, H, W), normalised, H and W multiples of 16.
            indices: Of the blocks to return, ascending.

        Returns:
            The neck (B, 256, h, w) and the blocks (B, C, h, w), in float32.
        """
        maps = []
        device = images.device.type
        plain = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with torch.no_grad(), plain:
            x = self._patches(images.float())
            for index, block in enumerate(self._blocks):
                block.add_to(x)
                if index in indices:
                    maps.append(x.permute(0, 3, 1, 2).contiguous())
            return self._neck(x), maps

    def _patches(self, images: Tensor) -> Tensor:
        """Embedded patches with their positions (B, h, w, C). A convolution without overlap is a matrix product."""
        proj = self.model.patch_embed.proj
        size = proj.kernel_size[0]
        height, width = images.shape[2:]
        patches = images.unflatten(3, (width // size, size)).unflatten(2, (height // size, size))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, h, w, 3 size²)
        x = linear(patches, proj.weight.flatten(1), proj.bias)
        if x.shape[1:] != self._positions.shape[1:]:  # bicubic resizing costs as much as half a block
            self._positions = resample_abs_pos_embed_nhwc(self.model.pos_embed, [height // size, width // size])
        return x.add_(self._positions)

    def _neck(self, x: Tensor) -> Tensor:
        """Maps tokens (B, h, w, C) to the image embedding (B, 256, h, w)."""
        reduce, norm, conv, last_norm = self.model.neck
        x = _layer_norm(linear(x, reduce.weight.flatten(1), None), norm)
        weight = conv.weight.contiguous(memory_format=torch.channels_last)  # as the permuted tokens are
        x = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=conv.padding)
        return _layer_norm(x.permute(0, 2, 3, 1), last_norm).permute(0, 3, 1, 2).contiguous()


class _Block:
    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self.block = block
        self.dtype = dtype
        layers = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.mlp.fc1, "fc2": block.mlp.fc2}
        self.weight = {name: layer.weight.detach().to(dtype) for name, layer in layers.items()}
        self.bias = {name: layer.bias.detach().to(dtype) for name, layer in layers.items()}

    def add_to(self, x: Tensor) -> None:
        """Adds attention and MLP to the tokens (B, h, w, C), in place."""
        batch, height, width, channels = x.shape
        tokens = x.view(-1, channels)
        normal = _layer_norm(tokens, self.block.norm1).to(self.dtype)
        qkv = self._linear("qkv", normal).view(batch, height, width, -1)
        tokens.add_(self._linear("proj", self._attention(qkv).reshape(-1, channels)))
        normal = _layer_norm(tokens, self.block.norm2).to(self.dtype)
        hidden = self._linear("fc1", normal)
        tokens.add_(self._linear("fc2", torch.ops.aten.gelu_(hidden)))

    def _attention(self, qkv: Tensor) -> Tensor:
        """Attends within windows or the whole grid: projections (B, h, w, 3 C) to values (B, h, w, C).

        On a CPU padding has keys and values but no queries, since its output is dropped: whole windows and those that
        an edge cuts take turns. Other devices get all windows in one call, which is fewer kernels to launch.
        """
        attention, side = self.block.attn, self.block.window_size
        height, width = qkv.shape[1:3]
        sides = (side, side) if side else (height, width)
        if qkv.device.type != "cpu":
            qkv = _padded(qkv, sides, self.bias["qkv"])
        heads = attention.num_heads
        qkv, bias = qkv.unflatten(-1, (3, heads, -1)), self.bias["qkv"].view(3, 1, 1, 1, heads, 1, 1, -1)
        relative = _relative(attention.rel_pos_h, sides[0]), _relative(attention.rel_pos_w, sides[1])
        values = qkv.new_empty(*qkv.shape[:3], heads, qkv.shape[-1])
        for (lines, rows), (files, columns) in product(*map(_along, qkv.shape[1:3], sides)):
            q, kv = _windows(qkv[:, lines, files], (rows, columns), sides, bias[1:])
            k, v = kv.flatten(1, 4)
            out = attend(q.flatten(0, 3), k, v, relative[0][:rows], relative[1][:columns])
            part = values[:, lines, files].unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
            part.copy_(out.view(q.shape).permute(0, 1, 4, 2, 5, 3, 6))
        return values[:, :height, :width].flatten(3)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weight[name], self.bias[name])


def _windows(tokens: Tensor, shown: tuple[int, int], sides: tuple[int, int], padding: Tensor) -> tuple[Tensor, Tensor]:
    """Splits projected tokens into windows, with one copy.

    Args:
        tokens: (B, d rows, a columns, 3, n, c).
        shown: Which part of each window the tokens fill, (rows, columns).
        sides: The sides of a window, from there on filled with `padding`.
        padding: Of keys and values (2, 1, 1, 1, n, 1, 1, c).

    Returns:
        Queries (B, d, a, n, rows, columns, c), and keys and values (2, B, d, a, n, *sides, c).
    """
    rows, columns = shown
    split = tokens.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).permute(5, 0, 1, 3, 6, 2, 4, 7)
    kv = split.new_empty(2, *split.shape[1:5], *sides, split.shape[-1])
    kv[..., :rows, :columns, :] = split[1:]
    kv[..., rows:, :, :] = padding
    kv[..., :rows, columns:, :] = padding
    return split[0].contiguous(), kv


def _padded(tokens: Tensor, sides: tuple[int, int], padding: Tensor) -> Tensor:
    """Tokens (B, h, w, ...) with `padding` (...) behind, so that windows of these sides have no rest."""
    height, width = tokens.shape[1:3]
    if not (height % sides[0] or width % sides[1]):
        return tokens
    down, across = -(-height // sides[0]), -(-width // sides[1])
    padded = padding.repeat(len(tokens), down * sides[0], across * sides[1], 1)
    padded[:, :height, :width] = tokens
    return padded


def _along(length: int, side: int) -> list[tuple[slice, int]]:
    """The tokens of the whole windows along an axis and of the one that the edge cuts, and how many each window has."""
    whole, rest = length // side * side, length % side
    return [(slice(0, whole), side)] * (whole > 0) + [(slice(whole, length), rest)] * (rest > 0)


def _layer_norm(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _relative(table: Tensor, size: int) -> Tensor:
    """One vector for each query and key on a side of `size` patches (size, size, c).

    A table of another side is interpolated, as `get_rel_pos` of segment-anything does.
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place + size - 1]
