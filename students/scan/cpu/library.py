"""The compiled CPU kernels as Python sees them: structs by ctypes, one library per instruction set.

The structs mirror `kernels/scan.h` and `kernels/conv.h`, field by field.
"""

import ctypes
import math
from ctypes import POINTER, c_float, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from students.scan.cpu.build import ISAS, CompileError, find_libraries

_CAPABILITIES = {"avx512": ("AVX512",), "avx2": ("AVX2", "AVX512")}  # as PyTorch reports them


def _struct(name: str, fields: dict[str, Any]) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


_Tokens = _struct("Tokens", {"data": c_void_p} | dict.fromkeys(("batch", "direction", "token", "channel"), c_int64))
_Weights = _struct(
    "Weights", {"data": c_void_p} | dict.fromkeys(("batch", "direction", "group", "token", "state"), c_int64)
)
Problem = _struct(
    "Problem",
    dict.fromkeys(
        ("batch", "directions", "tokens", "steps", "channels", "groups", "states", "rank", "shared", "unit_width"),
        c_int64,
    )
    | dict.fromkeys(("softplus", "threads"), c_int64)
    | {"scale": c_float}
    | dict.fromkeys(("u", "delta", "z"), _Tokens)
    | dict.fromkeys(("B", "C"), _Weights)
    | dict.fromkeys(("A", "D", "delta_weight", "delta_bias", "initial", "order", "ungated", "starts"), c_void_p),
)
Outputs = _struct("Outputs", dict.fromkeys(("out", "last"), c_void_p))
_POINTERS = ("grad_last", "u", "delta", "z", "A", "B", "C", "B_parts", "C_parts", "D", "delta_bias", "initial")
Derivatives = _struct("Derivatives", {"grad_out": _Tokens} | dict.fromkeys(_POINTERS, c_void_p))
Convolution = _struct(
    "Convolution",
    dict.fromkeys(("batch", "directions", "tokens", "channels", "taps", "silu", "threads"), c_int64)
    | dict.fromkeys(("offsets", "strides"), c_void_p)
    | {"x": c_void_p, "x_batch": c_int64, "x_token": c_int64}
    | dict.fromkeys(("weight", "bias", "out", "grad_out", "grad_sum", "grad_x", "grad_weight", "grad_bias"), c_void_p),
)
CHUNK, UNIT, CONV_TILE = 16, 64, 128  # as in the headers


def unit_width(channels: int) -> int:
    """Channels of each unit of a group: at most UNIT, whole vectors, and an even number of units as far as possible."""
    units = 2 * math.ceil(channels / (2 * UNIT))
    return 16 * math.ceil(math.ceil(channels / units) / 16)


def tokens(x: Tensor | None) -> ctypes.Structure:
    """A float32 tensor (B, K, P, D); directions that it does not have are the first again."""
    if x is None:
        return _Tokens()
    batch, direction, token, channel = x.stride()
    return _Tokens(x.data_ptr(), batch, direction if x.shape[1] > 1 else 0, token, channel)


def weights(x: Tensor) -> ctypes.Structure:
    """A float32 tensor (B, K, G, P, N)."""
    return _Weights(x.data_ptr(), *x.stride())


def pointer(x: Tensor | None) -> int | None:
    """The address of a contiguous tensor."""
    return None if x is None else x.data_ptr()


@cache
def load(isa: str) -> ctypes.CDLL | str:
    """The library of one instruction set, or the reason why there is none."""
    capability = torch.backends.cpu.get_cpu_capability()
    if isa in _CAPABILITIES and capability not in _CAPABILITIES[isa]:
        return f"needs {isa.upper()}, and PyTorch reports {capability} here"
    library, reason = None, ""
    try:
        for path in find_libraries(isa):
            try:
                library = ctypes.CDLL(str(path))
                break
            except OSError as error:  # of the package, on a system older than the one that built it
                reason = str(error)
    except CompileError as error:
        reason = str(error)
    if library is None:
        return reason
    for name, structs in {
        "scan_forward": (Problem, Outputs),
        "scan_backward": (Problem, Derivatives),
        "conv_forward": (Convolution,),
        "conv_backward": (Convolution,),
    }.items():
        function = getattr(library, f"distill_{name}")
        function.argtypes, function.restype = [POINTER(struct) for struct in structs], None
    return library


def best() -> ctypes.CDLL | None:
    """The fastest library that loads."""
    return next((library for library in map(load, ISAS) if not isinstance(library, str)), None)
