"""Functions shared by `UPerNet` and `FPNDecoder`: the package SMP, the choice of maps, the initial weights."""

from types import ModuleType

from torch import nn

from distill.contracts import FeatureInfo
from distill.errors import UserError
from distill.weights import load_matching, read_state_dict

LEVELS = 4  # maps that SMP's decoders read of the usual encoder: strides 4 to 32


def require_smp(head: str) -> ModuleType:
    """Imports SMP, which is an extra.

    Args:
        head: The decoder that asks, for the message.

    Raises:
        UserError: SMP is not installed.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError(
            f"heads.{head} needs segmentation_models_pytorch ({error}): pip install 'distill-rs[smp]', "
            "or choose heads.LALEDecoder"
        ) from error
    return smp


def choose_levels(head: str, feature_info: FeatureInfo, class_names: list[str]) -> list[int]:
    """Indices of the maps that a decoder reads, finest first.

    Of many maps of one stride every fourth part of the depth gives one, as in DPT (https://arxiv.org/abs/2103.13413,
    section 3: layers 3, 6, 9 and 12 of ViT-B).

    Args:
        head: The decoder, for messages.
        feature_info: Channels and strides of the student's maps.
        class_names: Classes of the data.

    Raises:
        UserError: No class names, or maps that are not ordered from fine to coarse.
    """
    if not class_names:
        raise UserError(f"{head} needs at least one class; the data names none")
    strides = list(feature_info.reduction())
    if strides != sorted(strides):
        raise UserError(
            f"{head} reads maps from fine to coarse (got strides {strides}); let the student emit growing strides "
            "(`out_indices`)"
        )
    count = len(strides)
    if len(set(strides)) > 1 or count <= LEVELS:
        return list(range(count))[-LEVELS:]
    return [count * quarter // LEVELS - 1 for quarter in range(1, LEVELS + 1)]


def initialise(head: nn.Module, smp: ModuleType, checkpoint: str | None) -> None:
    """Draws the initial weights as SMP does, then loads the checkpoint."""
    smp.base.initialization.initialize_decoder(head.decoder)
    smp.base.initialization.initialize_head(head.segmentation_head)
    if checkpoint is not None:
        load_matching(head, read_state_dict(checkpoint), checkpoint)
