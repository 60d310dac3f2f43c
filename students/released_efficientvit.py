"""Reads released EfficientViT weights: one table of names for classification, segmentation and SAM.

Source: the module trees of github.com/mit-han-lab/efficientvit, and timm's port, whose names the backbone bears here.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

# Beginning of a released name: the part of the model it belongs to, and what stands for it there. The first that
# matches holds. `backbone.`, `neck.` and `norm.` alone are the names of this project's own EfficientViTSAM.
_NAMES: dict[str, tuple[str, str | Callable[[re.Match[str]], str]]] = {
    r"backbone\.input_stem\.op_list\.0\.": ("backbone", "stem.in_conv."),
    r"backbone\.input_stem\.op_list\.(\d+)\.": ("backbone", lambda found: f"stem.res{int(found[1]) - 1}."),
    r"backbone\.stages\.(\d+)\.op_list\.(\d+)\.": ("backbone", r"stages.\1.blocks.\2."),
    r"backbone\.": ("backbone", ""),
    r"head\.op_list\.0\.": ("classifier", "head.in_conv."),
    r"head\.op_list\.2\.linear\.": ("classifier", "head.classifier.0."),
    r"head\.op_list\.2\.norm\.": ("classifier", "head.classifier.1."),
    r"head\.op_list\.3\.linear\.": ("classifier", "head.classifier.4."),
    r"head\.input_ops\.(\d+)\.(?:op_list\.0\.)?": ("segmentation", r"project.\1."),
    r"head\.middle\.op_list\.(\d+)\.": ("segmentation", r"middle.\1."),
    r"head\.output_ops\.0\.op_list\.0\.": ("segmentation", "expand."),
    r"head\.output_ops\.0\.op_list\.1\.conv\.": ("segmentation", "classifier."),
    r"neck\.input_ops\.(\d+)\.op_list\.0\.": ("sam", r"neck.project.\1."),
    r"neck\.middle\.op_list\.(\d+)\.": ("sam", r"neck.middle.\1."),
    r"neck\.output_ops\.0\.op_list\.0\.conv\.": ("sam", "neck.output."),
    r"neck\.": ("sam", "neck."),
    r"norm\.": ("sam", "norm."),
}
_CLASSIFIER = "head.output_ops.0.op_list.{}.conv."


def split_released_efficientvit(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Splits a released EfficientViT into its parts and renames their parameters.

    Args:
        state: The state dict of a classification, segmentation or EfficientViT-SAM model.

    Returns:
        The parts that are there: "backbone" with the names of `students.EfficientViT`, which are timm's; "classifier"
        with timm's names; "segmentation" with those of `heads.SegHead`; "sam" with those of the neck and norm of
        `students.EfficientViTSAM`. SAM's prompt encoder and mask decoder are left out. Empty for other state dicts.
    """
    stripped = {name.removeprefix("image_encoder."): tensor for name, tensor in state.items()}
    rename = _regular(stripped)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stripped.items():
        regular = rename(name)
        for pattern, (part, replacement) in _NAMES.items():
            if re.match(pattern, regular):
                parts.setdefault(part, {})[re.sub(f"^{pattern}", replacement, regular)] = tensor
                break
    return parts


def _regular(names: Iterable[str]) -> Callable[[str], str]:
    """Removes two irregularities of the released names, which a table of single names cannot see.

    The L and XL series count the stem as stage 0, and a segmentation head without expansion has its classifier at the
    place of the expansion.
    """
    has_stem = any(name.startswith("backbone.input_stem.") for name in names)
    has_expansion = any(name.startswith(_CLASSIFIER.format(1)) for name in names)

    def shift(found: re.Match[str]) -> str:
        return f"backbone.stages.{int(found[1]) - 1}.op_list." if int(found[1]) else "backbone.input_stem.op_list."

    def rename(name: str) -> str:
        if not has_stem:
            name = re.sub(r"^backbone\.stages\.(\d+)\.op_list\.", shift, name)
        if not has_expansion:
            name = name.replace(_CLASSIFIER.format(0), _CLASSIFIER.format(1))
        return name

    return rename
