"""The selective scan by the compiled CPU kernels.

Axes: as in `students.scan.problem`.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from students.scan.cpu import library
from students.scan.flatten import factor_gradients
from students.scan.problem import Gradients, Result, Scan, Traits

_UPDATES_PER_THREAD = 2**18  # state updates below which another thread costs more than it saves


@dataclass(frozen=True)
class CpuBackend:
    """The kernels of one instruction set, as a `Backend`."""

    isa: str

    @property
    def NOTE(self) -> str:
        """A description for users."""
        return f"compiled kernel, {self.isa.upper() if self.isa != 'generic' else 'any processor'}"

    def obstacle(self, traits: Traits) -> str:
        """Why the kernels cannot run such a scan here; empty when they can."""
        if traits.device_type != "cpu":
            return f"runs on the CPU, not on {traits.device_type}"
        if traits.double or traits.complex or traits.constant:
            return "computes real float32 with B and C that vary in time"
        found = library.load(self.isa)
        return found if isinstance(found, str) else ""

    def starts_shape(self, scan: Scan) -> tuple[int, ...]:
        """Shape of the states that are saved: those before each chunk."""
        chunks = (scan.steps + library.CHUNK - 1) // library.CHUNK
        return scan.batch, scan.directions, chunks, scan.states, scan.channels

    def forward(self, scan: Scan, training: bool) -> Result:
        """Runs the scan, see `Backend.forward`."""
        inputs = _Inputs(scan)
        result = Result(
            out=scan.u.new_empty(scan.batch, scan.tokens, scan.channels, dtype=torch.float32),
            last_state=inputs.states(),
            ungated=scan.u.new_empty(
                _tokens_shape(scan) if training and scan.z is not None else 0, dtype=torch.float32
            ),
            starts=scan.u.new_empty(self.starts_shape(scan) if training else 0, dtype=torch.float32),
        )
        problem = inputs.problem(result.ungated, result.starts)
        outputs = library.Outputs(result.out.data_ptr(), result.last_state.data_ptr())
        self._call("scan_forward", problem, outputs)
        return Result(result.out.to(scan.u.dtype), result.last_state.mT.contiguous(), result.ungated, result.starts)

    def backward(
        self, grad_out: Tensor, grad_last: Tensor | None, scan: Scan, ungated: Tensor, starts: Tensor
    ) -> Gradients:
        """Computes the gradients, see `Backend.backward`."""
        inputs = _Inputs(scan)
        grad_out = grad_out.float().contiguous().unsqueeze(1)  # often expanded from a single number
        grad_last = None if grad_last is None else grad_last.mT.float().contiguous()
        # Tokens that no direction visits keep their zeros.
        fresh = _zeros if _leaves_gaps(scan) else _empty
        units = math.ceil(scan.channels // scan.groups / inputs.unit_width)
        weights = (scan.batch, scan.directions, scan.groups, scan.tokens, scan.states)
        du, ddelta = fresh(*scan.u.shape), fresh(scan.batch, scan.directions, scan.tokens, scan.channels)
        dz = _empty(*_tokens_shape(scan)) if scan.z is not None else _empty(0)
        dB_parts, dC_parts = fresh(units, *weights), fresh(units, *weights)
        dB, dC, dA, dinitial = _empty(*weights), _empty(*weights), inputs.states(), inputs.states()
        dD, dbias = (_empty(scan.batch, scan.directions, scan.channels) for _ in range(2))
        derivatives = library.Derivatives(
            library.tokens(grad_out),
            *map(
                library.pointer,
                (grad_last, du, ddelta, dz, dA, dB, dC, dB_parts, dC_parts, dD, dbias, dinitial),
            ),
        )
        self._call("scan_backward", inputs.problem(ungated, starts), derivatives)
        dweight = None
        if scan.delta_weight is not None:
            ddelta, dweight = factor_gradients(ddelta, scan.delta, scan.delta_weight)
        return Gradients(
            u=du.to(scan.u.dtype),
            delta=ddelta.to(scan.delta.dtype),
            delta_weight=dweight,
            A=dA.sum(0).mT.to(scan.A.dtype).contiguous(),
            B=dB.to(scan.B.dtype),
            C=dC.to(scan.C.dtype),
            D=None if scan.D is None else dD.sum(0).to(scan.D.dtype),
            z=None if scan.z is None else dz.to(scan.z.dtype),
            delta_bias=None if scan.delta_bias is None else dbias.sum(0).to(scan.delta_bias.dtype),
            initial_state=None if scan.initial_state is None else dinitial.mT.to(scan.initial_state.dtype).contiguous(),
        )

    def _call(self, name: str, *structs: ctypes.Structure) -> None:
        found = library.load(self.isa)
        if isinstance(found, str):
            raise RuntimeError(f"the scan kernel for {self.isa} cannot be loaded: {found}")
        function: Callable[..., None] = getattr(found, f"distill_{name}")
        function(*map(ctypes.byref, structs))


class _Inputs:
    """The tensors of a scan in float32, alive for as long as a kernel reads them."""

    def __init__(self, scan: Scan) -> None:
        self.scan, self.unit_width = scan, library.unit_width(scan.channels // scan.groups)
        self.u, self.delta, self.B, self.C = (x.float() for x in (scan.u, scan.delta, scan.B, scan.C))
        self.z = None if scan.z is None else scan.z.float().unsqueeze(1)
        self.A = (scan.A.float() * math.log2(math.e)).mT.contiguous()
        self.delta_weight = None if scan.delta_weight is None else scan.delta_weight.float().mT.contiguous()
        self.D, self.delta_bias = (None if x is None else x.float().contiguous() for x in (scan.D, scan.delta_bias))
        self.initial = None if scan.initial_state is None else scan.initial_state.float().mT.contiguous()
        self.order = None if scan.order is None else scan.order.to(torch.int32).contiguous()

    def states(self) -> Tensor:
        """An empty (B, K, N, D): channels last, as the kernels keep states."""
        scan = self.scan
        return _empty(scan.batch, scan.directions, scan.states, scan.channels)

    def problem(self, ungated: Tensor, starts: Tensor) -> ctypes.Structure:
        """The struct of the kernels; empty tensors stand for absent ones."""
        scan = self.scan
        updates = scan.batch * scan.directions * scan.steps * scan.channels * scan.states
        return library.Problem(
            scan.batch,
            scan.directions,
            scan.tokens,
            scan.steps,
            scan.channels,
            scan.groups,
            scan.states,
            0 if scan.delta_weight is None else scan.delta_weight.shape[2],
            scan.u.shape[1] < scan.directions,
            self.unit_width,
            scan.delta_softplus,
            min(torch.get_num_threads(), 1 + updates // _UPDATES_PER_THREAD),
            scan.scale,
            *map(library.tokens, (self.u, self.delta, self.z)),
            *map(library.weights, (self.B, self.C)),
            *map(library.pointer, (self.A, self.D, self.delta_weight, self.delta_bias, self.initial, self.order)),
            *(library.pointer(x) if x.numel() else None for x in (ungated, starts)),
        )


def _empty(*shape: int) -> Tensor:
    """What kernels write to, whatever PyTorch's default dtype and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device="cpu")


def _tokens_shape(scan: Scan) -> tuple[int, int, int]:
    return scan.batch, scan.tokens, scan.channels


def _leaves_gaps(scan: Scan) -> bool:
    """Whether some direction passes over a token."""
    if scan.order is None:
        return False
    return scan.steps < scan.tokens or bool((scan.order[:, -1] < 0).any())
