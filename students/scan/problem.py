"""One scan as every backend receives it: token-major tensors, one or more scan directions, checked.

Axes: B batch, K directions, T tokens along a direction, P tokens of the image, D channels, G groups, N states, R rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scan:
    """The arguments of one scan. Tensors may have any strides and floating dtypes; kernels compute in `dtype`.

    With `order`, step t of direction k reads and writes token `order[k, t]`; without, token t. The outputs of the
    directions are added up:

        Δ = softplus(delta + delta_bias), or without softplus
        h_t = exp(Δ_t A) h_{t-1} + Δ_t u_t B_t
        y = scale Σ_k (C h + D u), at a complex A with 2 Re(C h)
        out = y silu(z)

    Args:
        u: (B, K, P, D), or (B, 1, P, D) shared by all directions.
        delta: (B, K, P, D); with `delta_weight` its low-rank factor (B, K, P, R).
        delta_weight: (K, D, R): Δ before bias and softplus is `delta @ delta_weight.mT`.
        A: (K, D, N), real or complex.
        B: (B, K, G, P, N), complex where A is; or constant in time (K, D, N).
        C: As `B`, independently of it.
        D: (K, D).
        z: (B, P, D).
        delta_bias: (K, D).
        initial_state: (B, K, D, N).
        order: int32 (K, T). A row visits a token at most once; rows shorter than T end in -1.
        delta_softplus: Whether Δ passes through softplus.
        scale: Factor of the sum over directions: 1 for a sum, 1 / K for a mean.
    """

    u: Tensor
    delta: Tensor
    delta_weight: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
    order: Tensor | None
    delta_softplus: bool
    scale: float

    @property
    def batch(self) -> int:
        """B."""
        return self.u.shape[0]

    @property
    def directions(self) -> int:
        """K."""
        return self.A.shape[0]

    @property
    def tokens(self) -> int:
        """P, the tokens of an image."""
        return self.u.shape[2]

    @property
    def steps(self) -> int:
        """T, the steps of the longest direction."""
        return self.u.shape[2] if self.order is None else self.order.shape[1]

    @property
    def channels(self) -> int:
        """D."""
        return self.u.shape[3]

    @property
    def states(self) -> int:
        """N."""
        return self.A.shape[2]

    @property
    def groups(self) -> int:
        """G; 1 where both B and C are constant."""
        return next((x.shape[2] for x in (self.B, self.C) if x.dim() == 5), 1)

    @property
    def dtype(self) -> torch.dtype:
        """The real dtype kernels compute in: float64 for float64 `u`, else float32."""
        return torch.float64 if self.u.dtype == torch.float64 else torch.float32

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of states: `dtype`, or its complex counterpart."""
        return self.dtype.to_complex() if self.A.is_complex() else self.dtype

    @property
    def traits(self) -> "Traits":
        """The properties that decide which backend can run this scan."""
        device = self.u.device
        return Traits(
            device=device.type if device.type == "cpu" or device.index is None else f"{device.type}:{device.index}",
            double=self.dtype == torch.float64,
            complex=self.A.is_complex(),
            constant=self.B.dim() == 3 or self.C.dim() == 3,
            initial_state=self.initial_state is not None,
        )


@dataclass(frozen=True)
class Traits:
    """The properties of a scan that backends may refuse.

    Args:
        device: "cpu", or another device with its index, "cuda:1", where it is known: GPUs of one machine may differ.
        double: Whether it computes in float64.
        complex: Whether A is complex.
        constant: Whether B or C is constant in time.
        initial_state: Whether it starts from a given state.
    """

    device: str
    double: bool = False
    complex: bool = False
    constant: bool = False
    initial_state: bool = False

    @property
    def device_type(self) -> str:
        """The device without its index."""
        return self.device.partition(":")[0]


@dataclass(frozen=True)
class Result:
    """The outputs of a forward pass.

    Args:
        out: (B, P, D) in u's dtype.
        last_state: (B, K, D, N).
        ungated: y (B, P, D) in the computation dtype, for the gradient of z; empty without z or outside training.
        starts: The states that the backward pass recomputes from, in a layout of the backend's own; empty outside
            training.
    """

    out: Tensor
    last_state: Tensor
    ungated: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Gradients:
    """Gradients of the tensors of a `Scan`, in their shapes and dtypes; `None` for absent tensors."""

    u: Tensor
    delta: Tensor
    delta_weight: Tensor | None
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    initial_state: Tensor | None
