"""timm models as students.

Axes: B batch, C channels, H W pixels or grid.
"""

from typing import Any

import timm
import torch
from timm.layers import Format, PatchEmbed
from timm.models import FeatureInfo, checkpoint_seq
from timm.models._features import FeatureDictNet, FeatureGetterNet, FeatureHookNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from distill.contracts import StudentBase
from distill.errors import UserError, first_line, unknown_name
from distill.layers import pad_to_multiple
from distill.layers import sin_cos_positions as waves_of_positions
from distill.linear import use_onednn
from distill.timm_sizes import refuses_size
from distill.weights import load_matching, part_of, read_state_dict

# The modules of timm whose models are `VisionTransformer`s; those of the last two start with convolutions.
_TRANSFORMERS = ("vision_transformer", "deit", "vision_transformer_hybrid", "vitamin")


class TimmStudent(StudentBase):
    """A timm model without its classifier, as a feature pyramid (`features_only`).

    The weights have timm's own names after `weights_prefix`: `model.` for convolutional nets, `model.model.` for
    vision transformers. A transformer trained here becomes a teacher, or any other timm model, by removing the prefix::

        prefix = student.weights_prefix
        weights = {name.removeprefix(prefix): tensor for name, tensor in student.state_dict().items()}
        timm.create_model(name, **options).load_state_dict(weights, strict=False)

    That model has one image size unless `options` name `dynamic_img_size`. Only the parts that `features_only` drops
    are then missing: the classifier, the final norm (a SAM encoder's neck), and blocks after the last tap. Some
    convolutional nets are flattened: timm writes `stages_0` for `stages.0` there.

    Args:
        name: timm's name, for example "efficientvit_b0" or "vit_tiny_patch16_224".
        out_indices: Which of timm's feature levels are returned, each once and in growing order; by default timm's
            choice.
        checkpoint: Weights of a `TimmStudent` or of the timm model itself. timm's names are accepted with or without
            prefix, and the parts `features_only` drops are ignored.
        options: Further arguments of `timm.create_model`, for example `{"img_size": 512}`. One of timm's
            `VisionTransformer`s is built with `dynamic_img_size`, unless they say false: it takes images of any size,
            its position embedding resampled.
        sin_cos_positions: Whether the position embedding of a vision transformer starts as sine and cosine waves, as in
            MAE, instead of at random. It is trained either way.
        checkpointing: Whether training computes the inside of blocks or stages, as timm divides the model, again in the
            backward pass instead of keeping it: the same gradients in less memory. Batch norms then see each batch
            twice, so their running statistics follow the data faster.

    Raises:
        UserError: Unknown name, arguments that timm refuses, levels in another order, other images than RGB, a
            checkpoint of another architecture, checkpointing of a model for which timm has none, or positions of one
            that has none.
    """

    feature_info: FeatureInfo

    def __init__(
        self,
        name: str,
        out_indices: list[int] | None = None,
        checkpoint: str | None = None,
        options: dict[str, Any] | None = None,
        sin_cos_positions: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(name.split(".", 1)[0]):
            raise unknown_name("timm model", name, timm.list_models())
        self.init_args = {"name": name, "out_indices": out_indices, "options": options}
        self._options = _free_size(name) | (options or {})
        if self._options.get("in_chans", 3) != 3:
            raise UserError(
                f"TimmStudent options have in_chans {self._options['in_chans']}, and a student gets red, green and "
                "blue; leave in_chans out (data.bands chooses the bands of an image that are shown as these)"
            )
        taps = {} if out_indices is None else {"out_indices": tuple(out_indices)}
        try:
            self.model = timm.create_model(name, pretrained=False, features_only=True, **taps, **self._options)
        except Exception as error:  # whatever a constructor does with wrong values, such as a division by 0
            raise UserError(
                f"timm refuses to build {name!r} as a feature extractor with out_indices {out_indices} and options "
                f"{options or {}} ({first_line(error)}); correct them, or choose another model"
            ) from error
        use_onednn(self.model)
        config = self.model.pretrained_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        self.feature_info = self.model.feature_info
        self._require_growing(name, out_indices)
        # Swin and its like compute with channels last.
        wrapped = isinstance(self.model, FeatureDictNet | FeatureHookNet)
        self._channels_last = wrapped and self.model.output_fmt is Format.NHWC
        self.weights_prefix = "model.model." if isinstance(self.model, FeatureGetterNet) else "model."
        if sin_cos_positions:
            self._start_positions()
        if checkpointing:
            self.set_grad_checkpointing()
        if checkpoint is not None:
            self._load(name, checkpoint)

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """A small ResNet whose residual branches do not start at zero."""
        return {"name": "resnet10t", "out_indices": [1, 2, 3, 4], "options": {"zero_init_last": False}}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing of timm's blocks or stages on or off.

        Raises:
            UserError: timm has none for this model.
        """
        # The wrapper of a transformer has no switch, the model inside has.
        blocks: Any = self.model.model if isinstance(self.model, FeatureGetterNet) else self.model
        try:
            blocks.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError) as error:
            name = self.init_args["name"]
            raise UserError(
                f"timm has no gradient checkpointing for {name!r}; set the student's checkpointing to false"
            ) from error

    def forward_visible(self, images: Tensor, visible: Tensor) -> Tensor:
        """The tokens of some patches alone, of a plain vision transformer; see `StudentBase.forward_visible`."""
        vit = self._transformer()
        if vit is None or not isinstance(vit.patch_embed, PatchEmbed):  # convolutions see the patches around, too
            return super().forward_visible(images, visible)
        tokens = vit._pos_embed(vit.patch_embed(images))
        leading, patches = tokens.tensor_split([vit.num_prefix_tokens], dim=1)
        patches = patches.gather(1, visible.unsqueeze(2).expand(-1, -1, patches.shape[2]))
        tokens = vit.norm_pre(torch.cat([leading, patches], dim=1))
        result: Tensor = checkpoint_seq(vit.blocks, tokens) if vit.grad_checkpointing else vit.blocks(tokens)
        return result

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W) to maps (B, C_i, H_i, W_i), the deepest last.

        Images of a vision transformer are padded with zeros, right and below, to whole patches.

        Raises:
            UserError: timm's model does not take images of that size.
        """
        if self._transformer() is not None:
            images = pad_to_multiple(images, max(self.feature_info.reduction()))
        try:
            maps = list(self.model(images))
        except (AssertionError, RuntimeError) as error:
            if not refuses_size(self.model, error):
                raise
            height, width = images.shape[-2:]
            raise UserError(
                f"timm's {self.init_args['name']!r} does not take images of {width} x {height} px "
                f"({first_line(error)}); set the data's image_size to a size that it takes, or the student's options, "
                "for example img_size"
            ) from error
        return [x.permute(0, 3, 1, 2) for x in maps] if self._channels_last else maps

    def _require_growing(self, name: str, out_indices: list[int] | None) -> None:
        """timm returns the maps from fine to coarse, each once, whatever the order that it tells them in."""
        info: Any = self.feature_info
        levels = [index % len(info.info) for index in info.out_indices]
        if not levels or levels != sorted(set(levels)):
            raise UserError(
                f"TimmStudent out_indices is {out_indices}; {name!r} allows growing numbers from 0 to "
                f"{len(info.info) - 1}"
            )

    def _transformer(self) -> Any:
        """timm's model, if it is of its class `VisionTransformer`."""
        model = self.model.model if isinstance(self.model, FeatureGetterNet) else None
        return model if isinstance(model, VisionTransformer) else None

    @torch.no_grad()
    def _start_positions(self) -> None:
        """Sine and cosine waves for the patches, zero for a class token."""
        vit = self._transformer()
        if vit is None or vit.pos_embed is None:
            raise UserError(
                f"timm's {self.init_args['name']!r} has no position embedding; set the student's sin_cos_positions to "
                "false"
            )
        waves = waves_of_positions(vit.patch_embed.grid_size, vit.embed_dim)
        vit.pos_embed.zero_()
        vit.pos_embed[:, -len(waves) :] = waves

    def _load(self, name: str, path: str) -> None:
        """Loads names of this module, or those of the full timm model without what `features_only` drops."""
        with torch.device("meta"):
            full = timm.create_model(name, pretrained=False, **self._options).state_dict()
        own = self.state_dict()
        _, state = part_of(read_state_dict(path), full | own, path)
        if state.keys() == own.keys():
            load_matching(self, state, path)
            return
        converted = {}
        for key, tensor in state.items():
            candidates = [self.weights_prefix + key, self.weights_prefix + key.replace(".", "_", 1)]
            target = next((candidate for candidate in candidates if candidate in own), None)
            if target is not None:
                converted[target] = tensor
            elif key not in full:
                converted[key] = tensor  # neither's: `load_matching` names it
        load_matching(self, converted, path)


def _free_size(name: str) -> dict[str, Any]:
    """The option with which timm builds a `VisionTransformer` for images of any size, or none.

    Weights, their names, and maps of images of the own size are the same with and without it.
    """
    found = timm.models.is_model_in_modules(name.split(".", 1)[0], _TRANSFORMERS)
    return {"dynamic_img_size": True} if found else {}
