"""Plain vision transformers of timm: DINOv2, DINOv3, MAE, and those trained in this project.

Axes: B batch, N tokens, C channels, H W pixels, h w patches.
"""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.errors import UserError
from distill.weights import load_matching, part_of, read_state_dict
from teachers.frozen import FrozenTeacher, check_indices, warn_of_random_weights
from teachers.timm_models import (
    PREFIX,
    create,
    hub_weights,
    options_of_student,
    published_licence,
    require_name,
    without_prefix,
)

# Of timm, whose models share tokens, blocks and norm.
_MODULES = ("vision_transformer", "vision_transformer_hybrid", "eva", "deit")
_HEADS = ("head.", "head_dist.", "fc_norm.", "attn_pool.")


class ViT(FrozenTeacher):
    """Frozen timm ViT, also with a ResNet stem, with the features "embedding" and "block_i".

    "embedding" holds the patch tokens of the last layer after the final norm, laid out as a map (B, C, h, w); class and
    register tokens are dropped. "block_i" is the output of block i, not normalised. Where a model has no norm on its
    tokens (it normalises after pooling, or it was trained here as a backbone, for which timm removes the norm), the
    embedding is the output of the last block as it is.

    Images of any size work: they are padded to a multiple of the patch, and timm resizes the position embedding. The
    mean and std are those of the named weights: `vit_large_patch16_dinov3.sat493m`, for one, does not use ImageNet's.

    Args:
        name: timm's name of the model, with the tag of its weights: vit_base_patch14_dinov2.lvd142m,
            vit_large_patch16_dinov3.sat493m, vit_base_patch16_224.mae.
        checkpoint: File of the official release or in timm's layout, or the `student.safetensors` of a run that trained
            this ViT as its student. None takes timm's copy from the Hugging Face hub.
        blocks: Indices i of the blocks to return as "block_i". None returns the embedding alone.
        options: Arguments of the timm constructor (img_size, patch_size, embed_dim, depth, num_heads). None takes those
            that a file of this project was trained with, else timm's.
        pretrained: False leaves the weights random where there is no `checkpoint`: to time a run before downloading.

    Raises:
        UserError: Unknown name, option or block; a checkpoint that is missing or of another model; no network.
    """

    def __init__(
        self,
        name: str,
        checkpoint: str | None = None,
        blocks: list[int] | None = None,
        options: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        if checkpoint is not None:
            options = options_of_student(name, checkpoint, options)
        encoder = _build(name, options or {})
        if checkpoint is None and not pretrained:
            warn_of_random_weights(name)
        else:
            source = checkpoint or hub_weights(name, encoder)
            _load(encoder, read_state_dict(source), source)

        indices = check_indices("block", blocks, len(encoder.blocks), name)
        statistics = encoder.pretrained_cfg
        channels = {"embedding": encoder.embed_dim} | {f"block_{i}": encoder.embed_dim for i in indices}
        patch = encoder.patch_embed.feat_ratio(as_scalar=True)
        super().__init__(name, encoder, patch, statistics["mean"], statistics["std"], channels)
        self.blocks = indices

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """Two narrow blocks with random weights."""
        narrow = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
        return {"name": "vit_tiny_patch16_224", "blocks": [1], "options": narrow, "pretrained": False}

    @classmethod
    def licence(cls, arguments: Mapping[str, Any]) -> str | None:
        """See `distill.contracts.TeacherBase.licence`."""
        return published_licence(str(arguments["name"]))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The embedding and the selected blocks, each (B, C, h, w)."""
        if self.blocks:
            tokens, maps = self.encoder.forward_intermediates(images, indices=self.blocks)
        else:
            tokens, maps = self.encoder.forward_features(images), []
        height, width = images.shape[2] // self.multiple, images.shape[3] // self.multiple
        patches = tokens[:, self.encoder.num_prefix_tokens :]  # (B, N, C)
        embedding = patches.transpose(1, 2).unflatten(2, (height, width))
        return {"embedding": embedding} | {f"block_{i}": x for i, x in zip(self.blocks, maps, strict=True)}


def _build(name: str, options: dict[str, Any]) -> Any:
    """The timm model without its head, randomly initialised."""
    from timm.models import is_model_in_modules

    require_name(name, "vit_*")
    if not is_model_in_modules(name.partition(".")[0], _MODULES):
        raise UserError(
            f"timm model {name!r} is not a plain ViT; set model.teacher.name to a vit_*, deit* or eva* model "
            "(samvit_* is teachers.SAM, models of several strides are teachers.CNN)"
        )
    encoder = create(name, options, num_classes=0, dynamic_img_size=True)
    encoder.prune_intermediate_layers([len(encoder.blocks) - 1], prune_norm=False, prune_head=True)
    return encoder


def _load(encoder: Any, state: dict[str, Tensor], source: str | Path) -> None:
    """Loads a state of any known layout, leaving heads aside."""
    from timm.models import Eva, eva, vision_transformer

    prefix, state = part_of(state, encoder.state_dict(), source)
    if prefix.endswith(PREFIX) or all(key.startswith(PREFIX) for key in state):
        state = without_prefix(state)
        _prune_like(encoder, state)
    convert = (eva if isinstance(encoder, Eva) else vision_transformer).checkpoint_filter_fn
    try:
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # timm prints a line for each bias that DINOv3 files carry unused
            state = convert(state, encoder)
    except (KeyError, AttributeError, RuntimeError, ValueError, AssertionError):
        pass  # a file of another architecture; comparing it with the model as it is says so in one line
    load_matching(encoder, {key: value for key, value in state.items() if not key.startswith(_HEADS)}, source)


def _prune_like(encoder: Any, state: dict[str, Tensor]) -> None:
    """Drops the blocks and the norm that timm dropped when it wrapped the model as a backbone.

    A backbone ends at the deepest block it returns, and its maps are those of the blocks, before the final norm.
    """
    depth = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("blocks.")), default=0)
    if depth <= len(encoder.blocks):
        encoder.prune_intermediate_layers([depth - 1], prune_norm="norm.weight" not in state, prune_head=True)
