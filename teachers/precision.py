"""The number format of a teacher."""

import torch

from distill.errors import unknown_name

PRECISIONS = ("auto", "float32", "bfloat16")


def require_precision_name(precision: str) -> str:
    """Checks the name of a precision and returns it.

    Raises:
        UserError: The name is unknown.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision (model.teacher.precision)", precision, PRECISIONS)
    return precision


def resolve_precision(precision: str, device: torch.device) -> str:
    """The number format of a recipe's `precision` on a device: "auto" is bfloat16 where that is faster."""
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than those of float32.

    Of processors, those with AVX512-BF16 (Intel from Cooper Lake and Sapphire Rapids on, AMD from Zen 4 on), most of
    which have AMX, too; of GPUs, NVIDIA's from Ampere on and AMD's that PyTorch knows.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch.cpu.get_capabilities says the same and is public, but younger than the oldest PyTorch we run on.
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
