"""Whether Triton can run a scan here, and if not, why."""

from functools import cache
from importlib import import_module

import torch

from students.scan.problem import Traits

# Where the backend runs; tests add "cpu", on which Triton interprets its programs, thousands of times slower.
DEVICES = ("cuda",)
_OLDEST = (3, 7)  # 3.6 refuses device functions that return None, here for absent tensors; compiling shows it
_OLDEST_PYTORCH = "2.12"  # the first that brings it: 2.10 and 2.11 bring 3.6
_OLDEST_CAPABILITY = (8, 0)  # of NVIDIA's GPUs: Triton supports none before Ampere


def obstacle(traits: Traits) -> str:
    """Why Triton cannot run such a scan here; empty when it can. Never raises.

    Args:
        traits: Of the scan. Where its device has an index, "cuda:1", that GPU is looked at, else the current one.
    """
    device = traits.device_type
    if device not in DEVICES:
        return f"runs on {' and '.join(DEVICES).upper()}, not on {device}"
    refused = {
        "float64": traits.double,
        "a complex A": traits.complex,
        "B or C constant in time": traits.constant,
    }
    if found := [name for name, present in refused.items() if present]:
        return f"does not support {' or '.join(found)}"
    return _missing() or (_unfit(traits.device.partition(":")[2]) if device == "cuda" else "")


@cache
def _missing() -> str:
    try:
        version = import_module("triton").__version__
        old = tuple(int(part) for part in version.split(".")[:2]) < _OLDEST
    except Exception as error:  # a broken installation raises anything
        return f"Triton cannot be imported: {_line(error)}"
    if old:
        oldest = ".".join(map(str, _OLDEST))
        return f"its programs need Triton {oldest}, found {version}; PyTorch {_OLDEST_PYTORCH} and later bring it"
    return ""


def _unfit(index: str) -> str:
    try:
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA device"
        capability = torch.cuda.get_device_capability(int(index) if index else None)
    except Exception as error:  # a forked child of a process that used CUDA cannot, and no GPU may have that index
        return f"the GPU cannot be asked: {_line(error)}"
    if torch.version.hip is None and capability < _OLDEST_CAPABILITY:
        oldest, found = (".".join(map(str, x)) for x in (_OLDEST_CAPABILITY, capability))
        return f"Triton needs compute capability {oldest}, the GPU has {found}"
    return ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
