"""The arguments of the scan functions: every wrong one is a `ValueError` that says what was given and what is allowed.

Axes: B batch, K directions, T steps, P tokens of the image, D channels, G groups, N states, R rank, L time, H W grid.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_COMPLEX = (torch.complex64, torch.complex128)
_OPTIONAL = ("D", "z", "delta_bias", "dt_bias", "delta_weight", "initial_state")

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def check_sequences(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """The arguments of `selective_scan`.

    Raises:
        ValueError: One has the wrong type, shape, dtype or device.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    present = _tensors(given | {"delta_bias": delta_bias, "initial_state": initial_state})
    _sized("u", u, "(B, D, L)")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] < 1:
        raise _wrong("A", A, f"(D, N) with D = {channels}, the channels of u")
    states = A.shape[1]
    for name, x in (("B", B), ("C", C)):
        if x.dim() == 2:
            _shape(name, x, "(D, N)", (channels, states))
        else:
            _weights(name, x, batch, channels, states, length, A.is_complex())
    if B.dim() > 2 and C.dim() > 2 and _groups(B) != _groups(C):
        raise ValueError(f"C has {_groups(C)} groups, expected {_groups(B)}, the groups of B")
    _shapes(
        present,
        {
            "delta": ("(B, D, L)", (batch, channels, length)),
            "z": ("(B, D, L)", (batch, channels, length)),
            "D": ("(D,)", (channels,)),
            "delta_bias": ("(D,)", (channels,)),
            "initial_state": ("(B, D, N)", (batch, channels, states)),
        },
    )
    follow = {name for name, x in (("B", B), ("C", C)) if x.dim() == 2} | {"initial_state"}
    _dtypes(present, A, follow)
    _devices(present, "u")


def check_images(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_weight: Tensor | None,
    directions: int,
) -> None:
    """The arguments of `selective_scan_2d` for an order of K directions.

    Raises:
        ValueError: One has the wrong type, shape, dtype or device.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    present = _tensors(given | {"delta_bias": delta_bias, "delta_weight": delta_weight})
    if u.dim() not in (4, 5) or min(u.shape[1:]) < 1 or (u.dim() == 5 and u.shape[3] != directions):
        raise _wrong("u", u, f"(B, H, W, D), or (B, H, W, K, D) with K = {directions}, the directions of order")
    (batch, height, width), channels = u.shape[:3], u.shape[-1]
    allowed = ((channels,), (directions, channels))
    if A.dim() not in (2, 3) or tuple(A.shape[:-1]) not in allowed or A.shape[-1] < 1:
        raise _wrong("A", A, f"(D, N) or (K, D, N) with K = {directions} and D = {channels}")
    for name, x in (("D", D), ("delta_bias", delta_bias)):
        if x is not None and tuple(x.shape) not in allowed:
            raise _wrong(name, x, f"(D,) or (K, D) with K = {directions} and D = {channels}")
    states, inner, letter = A.shape[-1], channels, "D"
    if delta_weight is not None:
        if delta_weight.dim() != 3 or delta_weight.shape[:2] != (directions, channels) or delta_weight.shape[2] < 1:
            raise _wrong("delta_weight", delta_weight, f"(K, D, R) with K = {directions} and D = {channels}")
        inner, letter = delta_weight.shape[2], "R"
    pixels = (batch, height, width)
    _shapes(
        present,
        {
            "delta": (f"(B, H, W, K, {letter})", (*pixels, directions, inner)),
            "B": ("(B, H, W, K, N)", (*pixels, directions, states)),
            "C": ("(B, H, W, K, N)", (*pixels, directions, states)),
            "z": ("(B, H, W, D)", (*pixels, channels)),
        },
    )
    _dtypes(present, A, {"B", "C"})
    _devices(present, "u")


def check_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
) -> None:
    """The arguments of `selective_state_update`.

    Raises:
        ValueError: One has the wrong type, shape, dtype or device.
    """
    given = {"state": state, "x": x, "dt": dt, "A": A, "B": B, "C": C, "D": D, "z": z, "dt_bias": dt_bias}
    present = _tensors(given)
    _sized("state", state, "(B, D, N)")
    batch, channels, states = state.shape
    _shapes(
        present,
        {
            "x": ("(B, D)", (batch, channels)),
            "dt": ("(B, D)", (batch, channels)),
            "A": ("(D, N)", (channels, states)),
            "D": ("(D,)", (channels,)),
            "z": ("(B, D)", (batch, channels)),
            "dt_bias": ("(D,)", (channels,)),
        },
    )
    for name, weights in (("B", B), ("C", C)):
        groups = weights.shape[1] if weights.dim() == 3 else 1
        fits = weights.dim() in (2, 3) and (weights.shape[0], weights.shape[-1]) == (batch, states)
        if not fits or groups < 1 or channels % groups:
            raise _wrong(name, weights, f"(B, N) = {(batch, states)}, or (B, G, N) with G dividing D = {channels}")
    _dtypes(present, A, {"state", "B", "C"})
    _devices(present, "state")


def check_order(order: Tensor, tokens: int) -> None:
    """The entries of an order table (K, T): P tokens, none twice in a row, -1 at the end of a row only.

    Raises:
        ValueError: An entry is wrong.
    """
    inside = order >= 0
    if ((order < -1) | (order >= tokens)).any():
        raise ValueError(
            f"order has entries from {int(order.min())} to {int(order.max())}, "
            f"expected tokens from 0 to {tokens - 1}, or -1 at the end of a row"
        )
    if (inside[:, 1:] & ~inside[:, :-1]).any():
        raise ValueError("order has a token after a -1, which is allowed at the end of a row only")
    visits = torch.zeros(len(order), tokens, dtype=torch.int32, device=order.device)
    visits.scatter_add_(1, order.clamp(min=0).long(), inside.to(visits.dtype))
    if (visits > 1).any():
        row, token = (visits > 1).nonzero()[0].tolist()
        raise ValueError(
            f"order visits token {token} {int(visits[row, token])} times in row {row}, expected once at most"
        )


def _tensors(given: Mapping[str, object]) -> dict[str, Tensor]:
    present = {}
    for name, x in given.items():
        if x is None and name in _OPTIONAL:
            continue
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is of type {type(x).__name__}, expected a tensor")
        present[name] = x
    return present


def _wrong(name: str, x: Tensor, expected: str) -> ValueError:
    return ValueError(f"{name} has shape {tuple(x.shape)}, expected {expected}")


def _sized(name: str, x: Tensor, letters: str) -> None:
    """Rank, and at least one entry along all axes but that of the batch."""
    if x.dim() != letters.count(",") + 1 or min(x.shape[1:]) < 1:
        raise _wrong(name, x, f"{letters} with all but B at least 1")


def _shape(name: str, x: Tensor, letters: str, expected: tuple[int, ...]) -> None:
    if tuple(x.shape) != expected:
        raise _wrong(name, x, f"{letters} = {expected}")


def _shapes(present: Mapping[str, Tensor], expected: Shapes) -> None:
    for name, (letters, shape) in expected.items():
        if name in present:
            _shape(name, present[name], letters, shape)


def _groups(x: Tensor) -> int:
    return x.shape[1] if x.dim() == 4 else 1


def _weights(name: str, x: Tensor, batch: int, channels: int, states: int, length: int, interleaved: bool) -> None:
    """B or C where it varies in time."""
    last, letter = (2 * length, "2L") if interleaved else (length, "L")
    fits = x.dim() in (3, 4) and x.shape[0] == batch and x.shape[-2] == states and x.shape[-1] == last
    if not fits or _groups(x) < 1:
        raise _wrong(
            name,
            x,
            f"(D, N) = {(channels, states)}, or (B, N, {letter}) or (B, G, N, {letter}) "
            f"with B = {batch}, N = {states}, {letter} = {last}",
        )
    if channels % _groups(x):
        raise ValueError(f"{name} has {_groups(x)} groups, which must divide the {channels} channels of u")


def _dtypes(present: Mapping[str, Tensor], A: Tensor, follow: set[str]) -> None:
    """Floating point throughout; complex where and only where A is, for A itself and the names in `follow`."""
    allowed: tuple[torch.dtype, ...]
    for name, x in present.items():
        if name == "A":
            allowed, said = (*_REAL, *_COMPLEX), "float64, float32, float16, bfloat16, complex64 or complex128"
        elif name in follow and A.is_complex():
            allowed, said = _COMPLEX, "complex64 or complex128, since A is complex"
        else:
            allowed, said = _REAL, "float64, float32, float16 or bfloat16"
        if x.dtype not in allowed:
            raise ValueError(f"{name} is {x.dtype}, expected {said}")


def _devices(present: Mapping[str, Tensor], first: str) -> None:
    device = present[first].device
    for name, x in present.items():
        if x.device != device:
            raise ValueError(f"{name} is on {x.device}, expected {device}, the device of {first}")
