"""Groups parameters by weight decay and by their depth in the backbone."""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from distill.contracts import Component

_NUMBERED = re.compile(r"\d+|(layer|block|stage)s?_?\d+|[sb]\d+")  # RegNet has s1.b1
_CONTAINER = re.compile(r"model|body|trunk|encoder|backbone|(layer|block|stage)s?")


def _undecayed(module: nn.Module) -> Iterator[nn.Parameter]:
    for owner in module.modules():
        if isinstance(owner, Component):
            names = owner.no_weight_decay()
            yield from (parameter for name, parameter in owner.named_parameters() if name in names)
    for parameter in module.parameters():
        # The mark is that of mamba_ssm's layers, which a student of the user's own may hold.
        if parameter.ndim <= 1 or vars(parameter).get("_no_weight_decay", False):
            yield parameter


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits the trainable parameters of `module` into decayed and undecayed ones.

    Undecayed are vectors and scalars (norms, biases), parameters marked `_no_weight_decay`, and those that a component
    lists in `no_weight_decay()`.
    """
    undecayed = {id(parameter) for parameter in _undecayed(module)}
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in undecayed], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in undecayed], "weight_decay": 0.0},
    ]


def layer_depths(student: nn.Module) -> list[int]:
    """Depth of each parameter of a backbone, in the order of `parameters()`: 0 below the first block, then by block.

    A block is the deepest of the nested `layers`, `blocks` and `stages` in a parameter's name, as RS4D and timm number
    them; parameters between and after blocks belong to the block before them.
    """
    depths: dict[str, int] = {}
    result = []
    for name, _ in student.named_parameters():
        block = _block(name)
        if block:
            depths.setdefault(block, len(depths) + 1)
        result.append(depths[block] if block else len(depths))
    return result


def _block(name: str) -> str:
    """The part of a parameter's name up to its block; empty outside of blocks."""
    parts = name.split(".")[:-1]
    end = 0
    for position, part in enumerate(parts, start=1):
        if _NUMBERED.fullmatch(part):
            end = position
        elif not _CONTAINER.fullmatch(part):
            break
    return ".".join(parts[:end])
