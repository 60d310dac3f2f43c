"""SAM's image encoder, computed with few copies, from the weights of timm's module.

timm pads windows before the first projection, stores the position bias of each attention, and adds residuals out of
place. Here padding comes after the projection, where it equals the bias, with the one copy that makes windows;
attention is that of `sam_attention`; and the tokens are one float32 tensor to which every block adds in place. No
gradients.

Axes: B batch, C channels, H W pixels, h w patches, N = h w tokens, n heads, c channels of a head.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed_nhwc
from torch import Tensor
from torch.nn import functional as F

from teachers.sam_attention import attend

_Part = tuple[slice, int, slice]  # along one axis: which windows, how long they are, which tokens


class Encoder:
    """What `forward_intermediates` of timm's `VisionTransformerSAM` computes.

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
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
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
        x = F.linear(patches, proj.weight.flatten(1), proj.bias)
        if x.shape[1:] != self._positions.shape[1:]:  # bicubic resizing costs as much as half a block
            self._positions = resample_abs_pos_embed_nhwc(self.model.pos_embed, [height // size, width // size])
        return x.add_(self._positions)

    def _neck(self, x: Tensor) -> Tensor:
        """Maps tokens (B, h, w, C) to the image embedding (B, 256, h, w)."""
        reduce, norm, conv, last_norm = self.model.neck
        x = _layer_norm(F.linear(x, reduce.weight.flatten(1)), norm)
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
        self._add("proj", self._attention(qkv).view(-1, channels), tokens)
        normal = _layer_norm(tokens, self.block.norm2).to(self.dtype)
        hidden = self._linear("fc1", normal)
        self._add("fc2", torch.ops.aten.gelu_(hidden), tokens)

    def _attention(self, qkv: Tensor) -> Tensor:
        """Attends within windows or the whole grid: projections (B, h, w, 3 C) to values (B, h, w, C)."""
        attention, side = self.block.attn, self.block.window_size
        batch, height, width, _ = qkv.shape
        rows, columns = (side, side) if side else (height, width)
        heads = attention.num_heads
        qkv, bias = qkv.unflatten(-1, (3, heads, -1)), self.bias["qkv"].unflatten(0, (3, heads, -1))
        down, across = -(-height // rows), -(-width // columns)  # windows
        split = qkv.new_empty(3, batch, down, across, heads, rows, columns, qkv.shape[-1])
        _to_windows(qkv, split.permute(1, 2, 5, 3, 6, 0, 4, 7), bias)
        q, k, v = split.flatten(1, 4)
        out = attend(q, k, v, _relative(attention.rel_pos_h, rows), _relative(attention.rel_pos_w, columns))
        values = qkv.new_empty(batch, height, width, heads, qkv.shape[-1])
        _from_windows(out.view(split.shape[1:]).permute(0, 1, 4, 2, 5, 3, 6), values)
        return values.flatten(3)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[name], self.bias[name])

    def _add(self, name: str, x: Tensor, to: Tensor) -> None:
        """Adds a linear layer's output to float32 tokens (B N, C)."""
        if self.dtype == to.dtype:  # the product adds, so that only the bias takes a pass of its own
            to.add_(self.bias[name]).addmm_(x, self.weight[name].t())
        else:
            to.add_(self._linear(name, x))


def _to_windows(tokens: Tensor, windows: Tensor, padding: Tensor) -> None:
    """Copies tokens (B, h, w, ...) into windows (B, down, rows, across, columns, ...), and `padding` (...) behind."""
    for (down, rows, line), (across, columns, column) in _parts(tokens, windows):
        part = windows[:, down, :rows, across, :columns]
        part.copy_(tokens[:, line, column].unflatten(2, (-1, columns)).unflatten(1, (-1, rows)))
    bottom, right = tokens.shape[1] % windows.shape[2], tokens.shape[2] % windows.shape[4]
    if bottom:
        windows[:, -1, bottom:] = padding
    if right:
        windows[:, :, :, -1, right:] = padding


def _from_windows(windows: Tensor, tokens: Tensor) -> None:
    """Copies windows (B, down, rows, across, columns, ...) into tokens (B, h, w, ...), without their padding."""
    for (down, rows, line), (across, columns, column) in _parts(tokens, windows):
        part = windows[:, down, :rows, across, :columns]
        tokens[:, line, column].unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).copy_(part)


def _parts(tokens: Tensor, windows: Tensor) -> Iterator[tuple[_Part, ...]]:
    """Rectangles of equal windows: the whole ones, and those that the right edge, the bottom edge or both cut."""
    return product(_along(tokens.shape[1], windows.shape[2]), _along(tokens.shape[2], windows.shape[4]))


def _along(length: int, side: int) -> list[_Part]:
    whole, rest = length // side, length % side
    parts = [
        (slice(0, whole), side, slice(0, whole * side)),
        (slice(whole, whole + 1), rest, slice(whole * side, length)),
    ]
    return [part for part in parts if part[2].start < part[2].stop]


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
