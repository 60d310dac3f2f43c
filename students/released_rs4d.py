"""Reads RS4D weights: the names in the released state dicts, and the metadata of this project's own files."""

import json
import math
import re
from collections.abc import Mapping

from torch import Tensor

from distill.errors import UserError

# The original builds on mmpretrain's patch embedding and transformers' MambaMixer; the mixers' names are the same here.
_RENAMED = {r"^patch_embed\.projection\.": "patch_embed.", r"^ln1\.": "norm."}
_BACKBONE = "backbone."


def convert_released_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the parameters of a released RS4D backbone to those of `students.RS4D`; other names pass unchanged.

    Args:
        state: The backbone's state dict, or a whole detector's, of which the part under `backbone.` is taken. The
            data-parallel prefix `module.` is removed.

    Source: `RSMamba` in mmdet/rs4d/models.py of github.com/QinzheYang/RS4D.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if any(name.startswith(_BACKBONE) for name in names):
        names = {name.removeprefix(_BACKBONE): t for name, t in names.items() if name.startswith(_BACKBONE)}
    converted = {}
    for name, tensor in names.items():
        for pattern, replacement in _RENAMED.items():
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    position = converted.get("pos_embed")
    if position is not None and position.dim() == 3:  # (1, L, C), row by row over a square grid
        side = math.isqrt(position.shape[1])
        if side * side == position.shape[1]:
            converted["pos_embed"] = position.transpose(1, 2).unflatten(2, (side, side)).contiguous()
    return converted


def check_metadata(path: str, metadata: Mapping[str, str], init_args: Mapping[str, object]) -> None:
    """Checks that a file of this project matches the student that is to load it.

    Args:
        path: The file, for the message.
        metadata: The file's metadata: `class` and, as JSON, `init_args`. Empty for a released state dict.
        init_args: Of the student.

    Raises:
        UserError: Another class, variant or patch size.
    """
    written = metadata.get("class")
    if written is not None and written.rsplit(".", 1)[-1] != "RS4D":
        raise UserError(
            f"checkpoint {path!r} holds a {written}, not an RS4D; set the student's class_path to {written}"
        )
    arguments = json.loads(metadata.get("init_args", "{}"))
    for key in ("variant", "patch_size"):
        if key in arguments and arguments[key] != init_args[key]:
            raise UserError(
                f"checkpoint {path!r} was trained with {key} {arguments[key]!r}, the student has {init_args[key]!r}; "
                f"set the student's {key} to {arguments[key]!r}, or use another file"
            )
