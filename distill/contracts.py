"""Base classes of students, teachers, heads and decoders, and the types that heads and data exchange.

Axes: B batch, C channels, H W grid or pixels, K classes, N instances or tokens. Boxes are (x1, y1, x2, y2) in pixels,
exclusive at the far edge, so that a box that covers the whole image is (0, 0, W, H).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch._ops import OpOverload

from distill.discovery import public_path
from distill.errors import UserError
from distill.instance_masks import InstanceMasks
from distill.weights import digest

Corrupt = Callable[[Tensor], tuple[Tensor, Tensor]]


class FeatureInfo(Protocol):
    """Channels and strides of a backbone's maps, in timm's convention (`timm.models.FeatureInfo` satisfies it)."""

    def channels(self) -> Sequence[int]:
        """Channels C_i of each map."""

    def reduction(self) -> Sequence[int]:
        """Stride of each map against the input, in pixels."""


class Component(nn.Module):
    """Base of every student, teacher, head and decoder.

    Attributes:
        required_attributes: Names of attributes that have no default.
        operator_modules: Modules of `students`, `teachers` or `heads` that register its own operators in PyTorch.
            Whoever runs an exported program imports them first.
    """

    required_attributes: ClassVar[tuple[str, ...]] = ()
    operator_modules: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def smoke_args(cls) -> dict[str, Any]:
        """Arguments that make the smallest component of its kind, for the contract tests.

        Heads and decoders leave out `feature_info` and `class_names`, which the tests supply.
        """
        return {}

    @property
    def label(self) -> str:
        """Short name for tables and cards: the class, and where it has several variants, which one."""
        return self.class_path.rpartition(".")[2]

    @property
    def class_path(self) -> str:
        """How a recipe names the class, for example "students.RS4D"."""
        return public_path(type(self))

    def onnx_operators(self) -> Mapping[OpOverload, Callable[..., Any]]:
        """Translations of its own operators, for the `custom_translation_table` of `torch.onnx.export`.

        Keys are overloads such as `torch.ops.distill_heads.padded_nms.default`, values functions of onnxscript, opset
        18. A component without operators of its own has none.
        """
        return {}

    def require_attributes(self) -> None:
        """Checks that the attributes without a default exist; callers that read them call it first.

        Raises:
            UserError: One is missing.
        """
        if missing := [name for name in self.required_attributes if name not in dir(self)]:
            contract = next(parent.__name__ for parent in type(self).__mro__ if "required_attributes" in vars(parent))
            raise UserError(
                f"{self.class_path} has no {' and no '.join(missing)}, which distill.contracts.{contract} declares; "
                "set it in the constructor"
            )

    def no_weight_decay(self) -> set[str]:
        """Names of its parameters, beside vectors and scalars, that weight decay would harm.

        By default those that models of timm inside it list, such as position embeddings.
        """
        listed: set[str] = set()
        for prefix, module in self.named_modules():
            if prefix and hasattr(module, "no_weight_decay"):  # timm's models have the method or lack it
                listed |= {f"{prefix}.{name}" for name in module.no_weight_decay()}
        return {name for name, _ in self.named_parameters() if name in listed}


class StudentBase(Component):
    """Base of students, the backbones that are trained.

    Whoever calls a student normalises the images with its `mean` and `std`. `distill.plain_student` gives these
    defaults to a model that is no `StudentBase`, such as a `features_only` model of timm.

    Attributes:
        feature_info: Channels and stride of each map.
        mean: Mean of the RGB channels that images are normalised with; ImageNet's by default.
        std: Standard deviation of the RGB channels; ImageNet's by default.
        init_args: Arguments that build the same architecture; they go into its file. `label` shows variant or name.
        token_channels: Channels C of the tokens that `forward_corrupted` exposes; None where there are none.
    """

    required_attributes = ("feature_info",)
    feature_info: FeatureInfo
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    init_args: Mapping[str, Any] = MappingProxyType({})
    token_channels: int | None = None

    @property
    def label(self) -> str:
        """The class, and the variant or name it was built with."""
        detail = self.init_args.get("variant") or self.init_args.get("name")
        return f"{super().label} {detail}" if detail else super().label

    @property
    def coarsest(self) -> int:
        """Stride of the coarsest map that is computed, in pixels, whether it is returned or not."""
        return max(self.feature_info.reduction())

    @property
    def is_project_student(self) -> bool:
        """Whether the class is one of `students`, so that `distill.load_student` needs only its file."""
        return self.class_path.startswith("students.")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps normalised images (B, 3, H, W), any H and W, to maps (B, C_i, H_i, W_i); the last is the deepest."""
        raise NotImplementedError

    def forward_corrupted(self, images: Tensor, corrupt: Corrupt) -> tuple[list[Tensor], Tensor]:
        """As `forward`, with corrupted tokens.

        Args:
            images: (B, 3, H, W), normalised.
            corrupt: Maps tokens (B, N, token_channels), row by row, to corrupted ones and to what it touched (B, N).

        Returns:
            The maps, and which tokens were touched (B, N).

        Raises:
            NotImplementedError: The student has no tokens (`token_channels` is None).
        """
        raise NotImplementedError(f"{type(self).__name__} has no tokens")

    def forward_visible(self, images: Tensor, visible: Tensor) -> Tensor:
        """The tokens of some patches of each image, computed without the others.

        Args:
            images: (B, 3, H, W), normalised.
            visible: Numbers (B, V) of the patches, row by row; a patch has the stride of the last map.

        Returns:
            (B, P + V, C) with the channels C of the last map: P tokens that are of no patch, such as a class token,
            then those of the patches in the order of `visible`.

        Raises:
            UserError: The student's tokens are no patches that can be left out.
        """
        raise UserError(
            f"student {self.label} cannot leave out patches, as masked autoencoding needs; train a plain vision "
            "transformer: students.TimmStudent with a name like vit_tiny_patch16_224"
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turns gradient checkpointing on or off.

        Raises:
            UserError: The student has none.
        """
        if enable:
            raise UserError(f"student {self.label} has no gradient checkpointing; set its key checkpointing to false")

    def rescale_output(self, rms: float) -> bool:
        """Makes the last map start at a root mean square of `rms`, unless its scale was loaded or trained.

        Returns:
            Whether it did; a student that cannot choose its scale never does.
        """
        return False

    def fold_output(self, scale: Tensor, shift: Tensor) -> bool:
        """Multiplies the last map by `scale` (C,) and adds `shift` (C,), by changing weights.

        Returns:
            Whether it did; a student whose last layer has no such weights never does.
        """
        return False


class TeacherBase(Component):
    """Base of teachers: frozen, in eval mode, and excluded from checkpoints and optimizers.

    Attributes:
        channels: Channels C of each feature by name.
        reduction: Stride of each feature by name, in pixels of the image; distillation needs that of its target.
        class_names: Classes of the feature "logits", in order; empty where there is none.
        name: Which of its kind it is, such as timm's name of the model; empty if there is only one.
    """

    required_attributes = ("channels",)
    channels: dict[str, int]
    reduction: Mapping[str, int] = MappingProxyType({})
    class_names: Sequence[str] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """The class and the name."""
        return f"{super().label} {self.name}".strip()

    @classmethod
    def licence(cls, arguments: Mapping[str, Any]) -> str | None:
        """The licence of the published weights that these constructor arguments name; None if it is unknown."""
        return None

    @property
    def precision(self) -> str:
        """The number format of its matrix products, "float32" or "bfloat16"; the digest does not depend on it.

        "float32" stands for whatever `trainer.precision` says. A teacher that decides for itself, such as
        `teachers.SAM`, says what it uses on the device that it is on.
        """
        return "float32"

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps RGB images in [0, 1] of shape (B, 3, H, W) to named features (B, C, H', W').

        The teacher applies its own mean and standard deviation.
        """
        raise NotImplementedError

    @cached_property
    def digest(self) -> str:
        """Identifies the weights; computed on first use."""
        return digest(self)

    def freeze(self) -> Self:
        """Sets `requires_grad` to False for all parameters; a task calls it."""
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever the mode of the module around it."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Weight averaging copies the whole training module; a frozen teacher would only cost memory twice.
        return self


@dataclass
class Target:
    """Ground truth of one image, in the pixel frame of the network's input."""

    image_id: int
    boxes: Tensor  # (N, 4) float32
    labels: Tensor  # (N,) int64, index into the class names
    masks: Tensor | InstanceMasks  # (N, H, W) bool
    crowd: Tensor  # (N,) bool: regions to ignore
    size: tuple[int, int]  # (h, w) of the real image inside the padded input
    original_size: tuple[int, int]  # (h, w) of the image file

    def to(self, device: torch.device | str) -> Self:
        """Moves boxes and labels to a device.

        Masks and `crowd` stay in host memory: MMDetection crops masks there, and to index by flags of the host, nothing
        waits for the device.
        """
        return replace(
            self,
            boxes=self.boxes.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Self:
        """Copies the tensors into page-locked memory, for copies to a GPU that do not block; the loader calls it."""
        return replace(
            self,
            boxes=self.boxes.pin_memory(),
            labels=self.labels.pin_memory(),
            masks=self.masks.pin_memory(),
            crowd=self.crowd.pin_memory(),
        )


@dataclass
class Prediction:
    """Instances found in one image, in the pixel frame of the image file.

    Dense masks of 100 instances at 1024 px are 100 MiB; `InstanceMasks` take the memory of their objects.
    """

    image_id: int
    boxes: Tensor  # (N, 4) float32
    scores: Tensor  # (N,) float32, descending
    labels: Tensor  # (N,) int64, index into the class names
    masks: Tensor | InstanceMasks  # (N, H, W) bool


@dataclass(frozen=True)
class ExportForm:
    """A head as a graph for one image; the shapes of its outputs depend on the image's size alone.

    Attributes:
        kind: What `module` returns for maps (1, C_i, H_i, W_i) and `size` (2,) int64, height and width without padding.

            - "regions": `boxes` (N, 4) float32 in pixels of the input, clipped to `size`, `scores` (N,) descending,
              `labels` (N,) int64, `count` () int64 of how many are instances, the rest being padding, and `masks`
              (N, m, m) float32, the probabilities inside each box.
            - "frames": the same, but `masks` (N, h, w) are logits of the whole input, a cell for "mask_stride" pixels.
            - "planes": `probabilities` (1, K, H, W); the connected regions are found outside.
        module: `forward(features, size)`; shares the head's weights.
        settings: For the runner: "mask_threshold"; in pixels, "mask_stride" of frames and "min_area" of planes.
        coarsest: Stride of the coarsest map that `module` makes, in pixels; 0: the student's is the coarsest.
    """

    kind: Literal["regions", "frames", "planes"]
    module: nn.Module
    settings: Mapping[str, float]
    coarsest: int = 0


class HeadBase(Component):
    """Base of heads for instance segmentation, with neck: built from `feature_info` and the class names.

    Attributes:
        float32_only: Whether parts of it compute in float32 and take no weights of another precision.
        max_detections: Most instances that it finds in one image; None if there is no limit. `distill.load` may raise
            it, so `predict` must look at it.
        score_threshold: Lowest score of an instance that it finds. `distill.load` may lower it.
        lowest_score: Score below which it finds no instance by its construction, whatever `score_threshold` is.
    """

    float32_only: bool = False
    max_detections: int | None = None
    score_threshold: float = 0.0
    lowest_score: float = 0.0

    def loss(self, features: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Named scalar losses; their sum is minimised."""
        raise NotImplementedError

    def predict(self, features: list[Tensor], targets: list[Target]) -> list[Prediction]:
        """Instances of each image. Of `targets` only `image_id`, `size` and `original_size` are read."""
        raise NotImplementedError

    def export_form(self) -> ExportForm:
        """The head as a graph that `distill export` can write.

        Raises:
            UserError: The head, or a setting of it, has none.
        """
        raise UserError(f"{self.class_path} cannot be exported; heads.MaskRCNN and heads.DenseMasks can")

    def cost_parts(self) -> Mapping[str, Callable[..., Any]]:
        """Parts of `predict` whose costs are measured separately: the method that computes each, by name.

        They follow one another. A head without parts is one part.
        """
        return {}

    def full_work(self) -> AbstractContextManager[None]:
        """Makes `predict` find as many instances as it can, whatever the weights and the image, to measure its cost.

        By default nothing changes: the work of the head does not depend on what it finds.
        """
        return nullcontext()

    def mmdet_config(self) -> dict[str, Any]:
        """The head as the parts of an MMDetection detector.

        Raises:
            UserError: MMDetection has no such detector.
        """
        raise UserError(f"{type(self).__name__} has no counterpart in MMDetection; heads.MaskRCNN has one")


class DecoderBase(Component):
    """Base of decoders for semantic segmentation: built from `feature_info` and the class names.

    Attributes:
        stride: Of the logits against the image, in pixels.
    """

    required_attributes = ("stride",)
    stride: int

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the student's maps (B, C_i, H_i, W_i) to logits (B, K, H', W')."""
        raise NotImplementedError
