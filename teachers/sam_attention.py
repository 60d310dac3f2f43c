"""Attention with SAM's decomposed relative positions, whose bias is never stored as a whole.

A query at (i, j) of a grid scores the key at (s, t) with `scale * q k + q a[i, s] + q b[j, t]`, where a and b hold one
vector for each pair of rows and of columns (Li et al., "MViTv2", 2022, arXiv 2112.01526, equation 4). For 64 x 64
patches and 12 heads, the last two terms alone are 805 MB as an attention mask. All functions here return the same and
differ in what they are fast on.

Axes: G groups (image, window and head), i j grid of queries, h w grid of keys, N = h w tokens, c channels of a head.
"""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.linear import linear

_SCORES = 2**18  # scores for each thread at a time: 1 MiB in float32, which the cache of a core holds
_MANY = 1024  # tokens of a group, from which on more than one call of PyTorch's fused attention pays
_MATRIX_UNITS = torch.cpu._is_amx_tile_supported()  # asked once, because torch.compile cannot trace the question


def attend(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention within each group, by the fastest function on this device.

    Args:
        q: Queries (G, i, j, c), contiguous: of the whole grid, or of its first rows and columns.
        k: Keys (G, h, w, c), contiguous.
        v: Values (G, h, w, c), contiguous.
        rows: Relative positions of the rows (i, h, c): of query and key.
        columns: Relative positions of the columns (j, w, c).

    Returns:
        (G, i, j, c).
    """
    if q.is_meta:  # multiply-adds are counted: those that every function needs
        return materialised(q, k, v, rows, columns)
    # Only with matrix units is a product cheap enough to make up for the channels that `appended` adds. The others ask
    # how many threads there are, which cannot be compiled.
    appends = (q.dtype == torch.bfloat16 and _MATRIX_UNITS) or torch.compiler.is_compiling()
    if q.device.type == "cpu" and not appends:
        many = k.shape[1] * k.shape[2] >= _MANY
        return (blocked if many else masked)(q, k, v, rows, columns)
    if q.device.type == "cuda" and q.shape[1] * q.shape[2] >= _MANY and flex_runs():
        return flexible(q, k, v, rows, columns, _compiled_flex())
    return appended(q, k, v, rows, columns)


def materialised(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Reference implementation: the bias is an attention mask (G, N, N)."""
    of_rows, of_columns = _terms(q, rows, columns)
    mask = (of_rows[..., :, None] + of_columns[..., None, :]).flatten(3).flatten(1, 2)
    queries, keys, values = (x.flatten(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).view_as(q)


def masked(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """PyTorch's fused attention for a few groups at a time, whose bias is a float32 mask that stays in the cache.

    The fused kernel of processors adds a float32 mask to float32 scores, also to those of bfloat16 queries.
    """
    of_rows, of_columns = (term.float() for term in _terms(q, rows, columns))
    queries, keys, values = (x.flatten(1, 2)[None] for x in (q, k, v))  # (1, G, N, c): the fused kernel wants four axes
    out = torch.empty_like(queries)
    together = max(1, _SCORES * torch.get_num_threads() // (queries.shape[2] * keys.shape[2]))
    for first in range(0, len(q), together):
        group = slice(first, first + together)
        bias = of_rows[group, ..., None] + of_columns[group, ..., None, :]
        mask = bias.flatten(3).flatten(1, 2)[None]
        q_group, k_group, v_group = (x[:, group] for x in (queries, keys, values))
        out[:, group] = F.scaled_dot_product_attention(q_group, k_group, v_group, attn_mask=mask)
    return out.view_as(q)


def blocked(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The scores of a few rows of queries at a time, whose products are those of `distill.linear`.

    Scores and their softmax are float32. For bfloat16, shares and values are multiplied in bfloat16.
    """
    groups, height, width, channels = q.shape
    tokens = k.shape[1] * k.shape[2]
    of_rows, of_columns = (term.float() for term in _terms(q, rows, columns))
    queries, keys, values = (x.flatten(1, 2) for x in (q, k, v))
    out = torch.empty_like(queries)
    lines = max(1, _SCORES * torch.get_num_threads() // (width * tokens))  # rows of queries
    for group in range(groups):
        query, key = queries[group].float() * channels**-0.5, keys[group].float()
        value = values[group].t().contiguous()  # (c, N)
        for top in range(0, height, lines):
            line = slice(top, top + lines)
            place = slice(top * width, (top + lines) * width)
            bias = of_rows[group, line, :, :, None] + of_columns[group, line, :, None, :]
            scores = linear(query[place], key).add_(bias.view(-1, tokens))
            out[group, place] = linear(scores.softmax(-1).to(value.dtype), value)
    return out.view_as(q)


def appended(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """One call of PyTorch's fused attention, with the position terms as further channels.

    A query carries its term for each row s and each column t, a key the indicator of its own row and column; so that
    their product is the bias. It is summed in float32, as all products are inside the fused kernels.
    """
    (groups, height, width, channels), scale = k.shape, q.shape[-1] ** -0.5
    terms = _terms(q, rows / scale, columns / scale)
    # CUDA's fused kernels take 16-bit channels by eights: of 64 + 14 + 14 there are 92, and 4 that are 0.
    spare = -(channels + height + width) % 8 if q.device.type == "cuda" else 0
    zeros = q.new_zeros(()).expand(*q.shape[:3], spare)
    queries = torch.cat((q, *terms, zeros), -1).flatten(1, 2)
    row, column = (torch.eye(n, dtype=k.dtype, device=k.device) for n in (height, width))
    place = F.pad(torch.cat((row[:, None].expand(-1, width, -1), column.expand(height, -1, -1)), -1), (0, spare))
    keys = torch.cat((k, place.expand(groups, -1, -1, -1)), -1).flatten(1, 2)
    values = v.flatten(1, 2)
    if v.device.type == "cpu":  # its fused kernel wants values as wide as keys
        values = F.pad(values, (0, height + width))
    # (1, G, N, c): the fused kernels take four axes only.
    out = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=scale)[0]
    return out[..., :channels].reshape(q.shape)


def flexible(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, flex_attention: Callable[..., Any]
) -> Tensor:
    """PyTorch's flex attention, which looks the position terms up while it scores."""
    width = k.shape[2]
    of_rows, of_columns = (term.flatten(1, 2).contiguous() for term in _terms(q, rows, columns))

    def add_positions(score: Tensor, batch: Tensor, group: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + of_rows[group, query, key // width] + of_columns[group, query, key % width]

    out: Tensor = flex_attention(*(x.flatten(1, 2)[None] for x in (q, k, v)), score_mod=add_positions)
    return out[0].view_as(q)


@functools.cache
def flex_runs() -> bool:
    """Whether flex attention compiles to one kernel on this GPU; elsewhere it would store all scores."""
    return (
        torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) and find_spec("triton") is not None
    )


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _terms(q: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The bias's two terms: of each query for each row (G, i, j, h), and for each column (G, i, j, w)."""
    of_rows = torch.einsum("ghwc,hsc->ghws", q, rows.to(q.dtype))
    of_columns = torch.einsum("ghwc,wtc->ghwt", q, columns.to(q.dtype))
    return of_rows, of_columns
