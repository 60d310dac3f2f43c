"""`selective_scan_2d`: the entry for images, scanned along one or more orders without permuted copies.

Axes: B batch, H W token grid, P = H W tokens, K directions, T steps, D channels, N states, R rank of Δ.
"""

from typing import Literal

import torch
from torch import Tensor

from students.scan.checks import check_images, check_order
from students.scan.interface import run_scan
from students.scan.orders import scan_order
from students.scan.problem import Scan


def selective_scan_2d(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    order: str | Tensor,
    delta_weight: Tensor | None = None,
    merge: Literal["sum", "mean"] = "sum",
    backend: str = "auto",
) -> Tensor:
    """The selective scan of images: the sum or the mean over K directions of what `selective_scan` computes along each.

    What is computed from single tokens, Δ, B and C, commutes with every permutation: it is given once per direction in
    the layout of the image, and the directions are mere tables of tokens. This covers the scans of Vim, VMamba,
    LocalMamba, PlainMamba and EfficientVMamba.

    Args:
        u: (B, H, W, D) shared by all directions, or (B, H, W, K, D).
        delta: (B, H, W, K, D), Δ before bias and softplus; with `delta_weight` its factor (B, H, W, K, R).
        A: (D, N) or (K, D, N), real or complex.
        B: (B, H, W, K, N), complex where A is.
        C: As `B`.
        D: (D,) or (K, D), the skip connection of every direction.
        z: (B, H, W, D), the gate of the merged output.
        delta_bias: (D,) or (K, D), added to Δ.
        delta_softplus: Whether Δ passes through softplus.
        order: A name that `scan_order` knows, or an integer table (K, T): the tokens y W + x in the order of their
            visit, each at most once per row; rows shorter than T end in -1. A table is checked at every call, which
            waits for the GPU where it lies there; in exported ONNX models it is not.
        delta_weight: (K, D, R): Δ = delta @ delta_weight.mT, in float32 at least. Backends that leave the product to
            PyTorch obey `torch.set_float32_matmul_precision`, as layers do.
        merge: Whether the outputs of the directions are added up ("sum") or averaged ("mean").
        backend: "auto", "reference" or a name that `explain_backend` lists.

    Returns:
        The output (B, H, W, D) in u's dtype; zero at tokens that no direction visits.

    Raises:
        ValueError: An argument has the wrong type, shape, dtype or device.
        ScanArgumentError: An order that does not exist or does not fit the grid, or a backend that does not exist or
            cannot run this scan. It is a `ValueError` and a `UserError`.
    """
    if not isinstance(u, Tensor) or u.dim() not in (4, 5):
        given = f"has shape {tuple(u.shape)}" if isinstance(u, Tensor) else f"is of type {type(u).__name__}"
        raise ValueError(f"u {given}, expected a tensor (B, H, W, D) or (B, H, W, K, D)")
    if merge not in ("sum", "mean"):
        raise ValueError(f"merge is {merge!r}, expected 'sum' or 'mean'")
    height, width = u.shape[1:3]
    table = _table(order, height, width, u.device)
    directions = table.shape[0]
    check_images(u, delta, A, B, C, D, z, delta_bias, delta_weight, directions)

    def tokens(x: Tensor) -> Tensor:
        """(B, H, W, K, ...) to (B, K, P, ...)."""
        return x.flatten(1, 2).transpose(1, 2)

    A = A if A.dim() == 3 else A.expand(directions, *A.shape)
    scan = Scan(
        u=u.flatten(1, 2).unsqueeze(1) if u.dim() == 4 else tokens(u),
        delta=tokens(delta),
        delta_weight=delta_weight,
        A=A,
        B=tokens(B).unsqueeze(2),
        C=tokens(C).unsqueeze(2),
        D=_per_direction(D, directions),
        z=None if z is None else z.flatten(1, 2),
        delta_bias=_per_direction(delta_bias, directions),
        initial_state=None,
        order=None if isinstance(order, str) and order == "raster" else table,
        delta_softplus=delta_softplus,
        scale=1 / directions if merge == "mean" else 1.0,
    )
    out, _ = run_scan(scan, backend)
    return out.unflatten(1, (height, width))


def _per_direction(x: Tensor | None, directions: int) -> Tensor | None:
    """(D,) or (K, D) to (K, D). Not inside of its caller: PyTorch 2.9 cannot compile a definition with `|`."""
    return x if x is None or x.dim() == 2 else x.expand(directions, *x.shape)


def _table(order: str | Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """The checked order table, int32 (K, T)."""
    if isinstance(order, str):
        return scan_order(order, height, width, device)
    if not isinstance(order, Tensor):
        raise ValueError(f"order is of type {type(order).__name__}, expected a name or an integer tensor (K, T)")
    if order.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"order is {order.dtype}, expected int32 or int64")
    if order.dim() != 2 or min(order.shape) < 1:
        raise ValueError(f"order has shape {tuple(order.shape)}, expected (K, T) with both at least 1")
    if order.device != device:
        raise ValueError(f"order is on {order.device}, expected {device}, the device of u")
    return _checked(order, height * width)


@torch.library.custom_op("distill::checked_scan_order", mutates_args=())
def _checked(order: Tensor, tokens: int) -> Tensor:
    """A copy as int32. An operator, so that compiled models check the entries when they run."""
    check_order(order, tokens)
    return order.to(torch.int32, copy=True)


@_checked.register_fake
def _(order: Tensor, tokens: int) -> Tensor:
    return torch.empty_like(order, dtype=torch.int32)
