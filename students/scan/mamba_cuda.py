"""mamba-ssm's CUDA kernel as a backend, where its extension `selective_scan_cuda` is installed: by name, or
chosen where Triton cannot run.

The kernel knows plain sequences, so images are permuted and merged around it, and it adds up the gradients of B and C
with atomics: they differ from run to run. It has no gradient of the last state, for which the backward pass of the
chunked backend stands in.

Source: github.com/state-spaces/mamba, csrc/selective_scan, called as `SelectiveScanFn` calls it.

Axes: B batch, K directions, T steps, D channels, G groups, N states.
"""

from dataclasses import replace
from functools import cache, reduce
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from students.scan import chunked
from students.scan.errors import ScanArgumentError
from students.scan.flatten import flatten, flatten_gradient, merge, unflatten
from students.scan.problem import Gradients, Result, Scan, Traits

NOTE = "mamba-ssm's CUDA kernel; gradients differ from run to run"

_EXTENSION = "selective_scan_cuda"
_BUILD = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation mamba-ssm"  # plain pip builds none
_CHUNK = 2048  # steps per checkpoint, a constant of the kernel
_MOST_STATES = 256  # another


def obstacle(traits: Traits) -> str:
    """Why mamba-ssm cannot run such a scan here; empty when it can."""
    if traits.device_type != "cuda":
        return f"runs on CUDA, not on {traits.device_type}"
    refused = {
        "float64": traits.double,
        "a complex A": traits.complex,
        "B or C constant in time": traits.constant,
        "an initial state": traits.initial_state,
    }
    if found := [what for what, present in refused.items() if present]:
        return f"does not take {', '.join(found)} here"
    return _probe()


def starts_shape(scan: Scan) -> tuple[int, ...]:
    """The kernel's checkpoints: (B, K D, ceil(T / 2048), 2 N), of each state its decay and its value."""
    return scan.batch, scan.directions * scan.channels, -(-scan.steps // _CHUNK), 2 * scan.states


def forward(scan: Scan, training: bool) -> Result:
    """Runs the kernel; float16 and bfloat16 are rounded once more than by other backends, before directions add up.

    Raises:
        ScanArgumentError: A has more states than the kernel takes.
    """
    if scan.states > _MOST_STATES:
        raise ScanArgumentError(
            f"A has {scan.states} states, mamba-ssm's kernel takes up to {_MOST_STATES}; backend 'chunked' takes more"
        )
    if not scan.batch:  # CUDA launches no empty grid
        starts = scan.u.new_empty(starts_shape(scan) if training else 0, dtype=torch.float32)
        return replace(chunked.forward(scan, training), starts=starts)
    sequences = flatten(scan)
    out, starts = _kernel().fwd(*_arguments(sequences), sequences.delta_softplus)
    y, ungated = merge(scan, _steps(out, scan), training)
    last = starts[:, :, -1, 1::2].unflatten(1, (scan.directions, scan.channels)).clone()
    return Result(y, last, ungated, starts if training else starts.new_empty(0))


def backward(grad_out: Tensor, grad_last: Tensor | None, scan: Scan, ungated: Tensor, starts: Tensor) -> Gradients:
    """The gradients of `scan`."""
    if grad_last is not None or not scan.batch:
        return chunked.backward(grad_out, grad_last, scan, ungated, chunked.forward(scan, True).starts)
    sequences = flatten(scan)
    grad_y, grad_z = flatten_gradient(scan, grad_out, ungated)
    arguments = _arguments(sequences)
    grad_y = _channels(grad_y).to(arguments[0].dtype).contiguous()
    u, delta, A, B, C, D, bias, *_ = _kernel().bwd(
        *arguments, grad_y, starts, None, None, sequences.delta_softplus, False
    )
    by_direction = (scan.directions, -1)
    return unflatten(
        scan,
        Gradients(
            u=_steps(u, scan),
            delta=_steps(delta, scan),
            delta_weight=None,
            A=A.unflatten(0, by_direction),
            B=B.unflatten(1, by_direction).mT,
            C=C.unflatten(1, by_direction).mT,
            D=None if scan.D is None else D.unflatten(0, by_direction),
            z=grad_z,
            delta_bias=None if sequences.delta_bias is None else bias.unflatten(0, by_direction),
            initial_state=None,
        ),
    )


def _arguments(sequences: Scan) -> tuple[Tensor, *tuple[Tensor | None, ...]]:
    """u, delta, A, B, C, D, z and delta_bias as the kernel wants them: (B, K D, T) and (B, K G, N, T), contiguous.

    u, delta, B and C must share one dtype: the most precise of theirs, which is at most float32. The others are
    float32.
    """
    varying = (sequences.u, sequences.delta, sequences.B, sequences.C)
    dtype = reduce(torch.promote_types, (x.dtype for x in varying))
    dtype = torch.float32 if dtype == torch.float64 else dtype
    u, delta, B, C = (x.to(dtype) for x in varying)
    A, D, bias = (
        None if x is None else x.flatten(0, 1).to(torch.float32).contiguous()
        for x in (sequences.A, sequences.D, sequences.delta_bias)
    )
    return (
        _channels(u).contiguous(),
        _channels(delta).contiguous(),
        A,
        B.mT.flatten(1, 2).contiguous(),
        C.mT.flatten(1, 2).contiguous(),
        D,
        None,
        bias,
    )


def _channels(x: Tensor) -> Tensor:
    """(B, K, T, D) to (B, K D, T)."""
    return x.mT.flatten(1, 2)


def _steps(x: Tensor, scan: Scan) -> Tensor:
    """The inverse of `_channels`."""
    return x.unflatten(1, (scan.directions, scan.channels)).mT


@cache
def _probe() -> str:
    """Why the extension cannot be used; empty when it can."""
    if not torch.cuda.is_available():
        return "no CUDA device was found"
    try:
        _kernel()
    except Exception as error:  # an extension built for another PyTorch fails with whatever the linker says
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"mamba-ssm's {_EXTENSION} cannot be imported: {reason}; to build it: {_BUILD}"
    return ""


def _kernel() -> ModuleType:
    return import_module(_EXTENSION)
