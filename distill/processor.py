"""Features of the processor."""

import platform
from pathlib import Path

_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def has_vnni() -> bool:
    """Whether sums of products of 8-bit numbers do not saturate; False if unknown."""
    return platform.system() == "Darwin" or not _VNNI.isdisjoint(_flags())


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; False if unknown."""
    return not _BFLOAT16.isdisjoint(_flags())


def is_from_amd() -> bool:
    """Whether AMD made it; False if unknown."""
    return "AuthenticAMD" in _words("vendor_id")


def _flags() -> list[str]:
    return _words("flags") or _words("Features")


def _words(name: str) -> list[str]:
    """The words of the first line of `/proc/cpuinfo` that begins with a name; none where there is no such line."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return next((line for line in lines if line.startswith(name)), "").split()
