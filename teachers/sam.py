"""The image encoder of the Segment Anything Model.

Axes: B batch, C channels, H W pixels, h w patches, T relative positions.

Source: Kirillov et al., "Segment Anything", 2023 (arXiv 2304.02643), and the project facebookresearch/segment-anything.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.errors import UserError, unknown_name
from distill.weights import load_matching, part_of, read_state_dict
from teachers.frozen import FrozenTeacher, check_indices, warn_of_random_weights
from teachers.hub import fetch
from teachers.precision import require_precision_name, resolve_precision
from teachers.sam_encoder import Encoder
from teachers.timm_models import published_licence

_PATCH = 16
_PAGE = "https://github.com/facebookresearch/segment-anything#model-checkpoints"
# The project's name: timm's name and the file of the public release.
_VARIANTS = {
    "sam_vit_b": ("samvit_base_patch16", "sam_vit_b_01ec64.pth"),
    "sam_vit_l": ("samvit_large_patch16", "sam_vit_l_0b3195.pth"),
    "sam_vit_h": ("samvit_huge_patch16", "sam_vit_h_4b8939.pth"),
}
_TIMM_TAG = ".sa1b"


class SAM(FrozenTeacher):
    """Frozen SAM image encoder with the features "neck" and "block_i".

    "neck" is SAM's image embedding, 256 channels at stride 16, (B, 256, 64, 64) for 1024 px; "block_i" is the output of
    transformer block i. The network is timm's, with the normalisation epsilon of the original.

    Images of any size work. Weights know a 64 x 64 grid; on other grids the absolute position embedding is resized
    (bicubic, antialiased) and the relative position tables of the global blocks are interpolated linearly, as
    `get_rel_pos` of segment-anything does. Window blocks keep their 14 x 14 windows.

    `sam_encoder` computes the features; timm's module holds the weights and could compute them, too, more slowly.
    Features are float32 in every precision, and `trainer.precision` has no effect on them.

    Args:
        name: sam_vit_b, sam_vit_l or sam_vit_h (or timm's name of the same model).
        checkpoint: File of the official release (`sam_vit_b_01ec64.pth`; prompt encoder and mask decoder are ignored)
            or in timm's layout. None takes timm's copy from the Hugging Face hub.
        image_size: Side in pixels of the images most often seen, a multiple of 16. The position tables are resized to
            its grid once, at loading; other sizes are served from those tables at each call. Leave it at 1024 where
            sizes vary, so that tables are never resized twice.
        blocks: Indices i of the blocks to return as "block_i". None returns the neck alone.
        pretrained: False leaves the weights random where there is no `checkpoint`: to time a run before downloading.
        precision: Of matrix products and attention: "float32", or "bfloat16", which keeps a copy of the weights of half
            their size, and whose neck differs by less than 1 % (L2, docs/distillation.md). "auto" is bfloat16 on
            processors with AVX512-BF16 and on GPUs that compute in it (NVIDIA from Ampere on), else float32.

    Raises:
        UserError: Unknown name, block, image size or precision; a checkpoint that is missing or of another model; no
            network.
    """

    def __init__(
        self,
        name: str = "sam_vit_b",
        checkpoint: str | None = None,
        image_size: int = 1024,
        blocks: list[int] | None = None,
        pretrained: bool = True,
        precision: str = "auto",
    ) -> None:
        import timm
        from timm.models.vision_transformer_sam import checkpoint_filter_fn

        name = _canonical(name)
        require_precision_name(precision)
        architecture, file = _VARIANTS[name]
        if image_size <= 0 or image_size % _PATCH:
            raise UserError(
                f"teacher {name}: image size {image_size} is no multiple of {_PATCH} px; "
                f"set model.teacher.image_size to one, for example {max(1, image_size // _PATCH) * _PATCH}"
            )
        with torch.random.fork_rng(devices=[]):  # the student's initialisation must not depend on the teacher's
            encoder = timm.create_model(
                architecture,
                num_classes=0,
                img_size=image_size,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),  # timm's default is 1e-5, the original's 1e-6
            )
        indices = check_indices("block", blocks, len(encoder.blocks), name)
        if checkpoint is None and not pretrained:
            warn_of_random_weights(name)
        else:
            source = checkpoint or fetch(
                f"timm/{architecture}{_TIMM_TAG}",
                f"download {file} from {_PAGE} to any folder and set model.teacher.checkpoint to its path, "
                "or set model.teacher.pretrained to false to time a run with random weights",
            )
            own = encoder.state_dict()
            released = {f"image_encoder.{key}": tensor for key, tensor in own.items()}  # which the filter looks for
            _, state = part_of(read_state_dict(source), own | released, source)
            state = checkpoint_filter_fn(state, encoder)
            load_matching(encoder, _resize_positions(state, encoder), source)

        statistics = encoder.pretrained_cfg
        channels = {"neck": encoder.num_features} | {f"block_{i}": encoder.embed_dim for i in indices}
        super().__init__(name, encoder, _PATCH, statistics["mean"], statistics["std"], channels)
        self.blocks = indices
        self._chosen_precision = precision
        self._fast = self._prepared()
        self.register_load_state_dict_post_hook(_prepare_again)

    @property
    def precision(self) -> str:
        """ "float32" or "bfloat16": the resolved precision on this device."""
        return resolve_precision(self._chosen_precision, self.offset.device)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """The base model with random weights, for small images."""
        return {"image_size": 64, "blocks": [0], "pretrained": False}

    @classmethod
    def licence(cls, arguments: Mapping[str, Any]) -> str | None:
        """See `distill.contracts.TeacherBase.licence`."""
        return published_licence(_VARIANTS[_canonical(str(arguments.get("name", "sam_vit_b")))][0])

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The neck (B, 256, h, w) and the selected blocks (B, C, h, w)."""
        # Weights on "meta", where multiply-adds are counted, are lent for a call and known to the module alone.
        encoder = self._prepared() if images.is_meta else self._fast
        neck, maps = encoder(images, self.blocks)
        return {"neck": neck} | {f"block_{i}": x for i, x in zip(self.blocks, maps, strict=True)}

    def _prepared(self) -> Encoder:
        return Encoder(self.encoder, getattr(torch, self.precision))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # moves the weights to another device
        self._fast = self._prepared()
        return self


def _prepare_again(teacher: SAM, _: object) -> None:
    teacher._fast = teacher._prepared()


def _canonical(name: str) -> str:
    for own, (architecture, _) in _VARIANTS.items():
        if name in (own, architecture, architecture + _TIMM_TAG):
            return own
    raise unknown_name("SAM teacher (model.teacher.name)", name, _VARIANTS)


def _resize_positions(state: dict[str, Tensor], encoder: Any) -> dict[str, Tensor]:
    """The state with its position tables on the encoder's grid.

    Window blocks are left alone: their tables never depend on the image size, so that a difference there means another
    architecture, which loading reports.
    """
    from timm.layers import resample_abs_pos_embed_nhwc

    state = dict(state)
    if "pos_embed" in state and state["pos_embed"].ndim == 4:
        state["pos_embed"] = resample_abs_pos_embed_nhwc(state["pos_embed"], encoder.patch_embed.grid_size)
    for i, block in enumerate(encoder.blocks):
        for axis in "hw" if block.window_size == 0 else "":
            key = f"blocks.{i}.attn.rel_pos_{axis}"
            own = block.attn.get_parameter(f"rel_pos_{axis}")
            if key in state and state[key].shape[0] != own.shape[0]:
                state[key] = F.interpolate(state[key].T[None], size=own.shape[0], mode="linear")[0].T  # (T, C)
    return state
