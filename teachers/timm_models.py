"""timm models as encoders of teachers: names, options, and sources of weights, for ViT and CNN."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.errors import UserError, first_line
from distill.linear import use_onednn
from distill.weights import read_metadata
from teachers.hub import fetch

# Options that have a key of their own, or none: what they may be, and where they are set.
_ELSEWHERE = {
    "pretrained": (False, "model.teacher.pretrained says whether weights are loaded"),
    "checkpoint_path": ("", "model.teacher.checkpoint names a file of weights"),
    "in_chans": (3, "a teacher takes RGB"),
}
PREFIX = "model."  # of timm's feature wrapper, and again of the student around it


def require_name(name: str, pattern: str) -> None:
    """Checks that timm knows a model.

    Args:
        name: With or without the tag of its weights.
        pattern: Wildcard of the names that are meant, for the hint.

    Raises:
        UserError: It does not.
    """
    import timm

    if not timm.is_model(name):
        nearest = get_close_matches(name, timm.list_models(pattern, pretrained=True), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
        raise UserError(
            f"unknown timm model {name!r} in model.teacher.name: "
            f"{hint}timm.list_models({pattern!r}, pretrained=True) lists all"
        )


def create(name: str, options: dict[str, Any], **required: Any) -> Any:
    """Creates the timm model with random weights.

    Args:
        name: With or without the tag of its weights.
        options: Arguments of the constructor from the recipe.
        required: Arguments that hold whatever the recipe says.

    Raises:
        UserError: timm refuses the name or the options.
    """
    import timm

    for key, (usual, instead) in _ELSEWHERE.items():
        if options.get(key, usual) != usual:
            raise UserError(f"model.teacher.options has {key} {options[key]!r}; leave it out: {instead}")
    try:
        with torch.random.fork_rng(devices=[]):  # the student's initialisation must not depend on the teacher's
            encoder = timm.create_model(name, **{**options, **required})
    except Exception as error:  # whatever a constructor does with wrong values, such as a division by 0
        raise UserError(
            f"timm cannot build {name!r} with options {options} ({first_line(error)}); "
            "correct model.teacher.name or model.teacher.options"
        ) from error
    return use_onednn(encoder)


def hub_weights(name: str, encoder: Any) -> Path:
    """The path of timm's copy of the published weights.

    Raises:
        UserError: There is none, or it cannot be had.
    """
    repository = encoder.pretrained_cfg.get("hf_hub_id")
    if not repository:
        raise UserError(
            f"timm publishes no weights for {name!r}; set model.teacher.checkpoint to a file, "
            "or model.teacher.name to one of timm.list_pretrained()"
        )
    return fetch(
        repository,
        f"download model.safetensors from https://huggingface.co/{repository} to any folder "
        "and set model.teacher.checkpoint to its path",
    )


def published_licence(name: str) -> str | None:
    """The licence of the weights that timm publishes for a model, as timm states it; None if it states none."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None else config.license


def trained_arguments(checkpoint: str) -> dict[str, Any]:
    """The constructor arguments of the student that a file of this project holds; empty for any other file."""
    if not Path(checkpoint).is_file():
        return {}  # reading the weights reports it
    arguments: dict[str, Any] = json.loads(read_metadata(checkpoint).get("init_args", "{}"))
    return arguments


def options_of_student(name: str, checkpoint: str, options: dict[str, Any] | None) -> dict[str, Any] | None:
    """The constructor options for a checkpoint: those given, else those stored in a file of this project.

    Raises:
        UserError: The file holds another model, or the same with other options.
    """
    trained = trained_arguments(checkpoint)
    if not trained:
        return options
    if trained.get("name") != name:
        raise UserError(
            f"checkpoint {checkpoint!r} holds {read_metadata(checkpoint).get('class')} with {trained}, not the timm "
            f"model {name!r}; set model.teacher.name to the model it was trained as, or choose another file"
        )
    stored = trained.get("options") or {}
    if options is not None and options != stored:
        raise UserError(
            f"checkpoint {checkpoint!r} was trained with options {stored}, not {options}; "
            "leave model.teacher.options out to take those of the file"
        )
    return stored


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of the state under the names that the timm model itself gives."""
    state = dict(state)
    while state and all(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): value for key, value in state.items()}
    return state
