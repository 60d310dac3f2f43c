"""Makes the heads of a detector return float32 under autocast.

bfloat16 has 8 bits: at 1024 px it rounds the coordinates of a box to several pixels.
"""

from typing import Any

from torch import Tensor, nn


def answer_in_float32(rpn_head: nn.Module, roi_head: Any) -> None:
    """Casts the outputs of proposals, boxes and masks to float32, by forward hooks.

    Args:
        rpn_head: MMDetection's proposal head.
        roi_head: Its second stage, with one `bbox_head` and `mask_head` or one for each step of a cascade.
    """
    for part in (rpn_head, *steps(roi_head.bbox_head), *steps(roi_head.mask_head)):
        part.register_forward_hook(_cast)


def steps(part: Any) -> list[Any]:
    """The heads of a cascade, or the only one."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def _cast(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Forward hook: a tensor, or nested sequences of them, in float32; None where a branch is switched off."""
    if output is None:
        return None
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_cast(module, inputs, part) for part in output)
