"""The interface of every probe, and how features of its images become scores.

Axes: B batch, N images, S side of an image in pixels, C channels, h w grid of a map, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from distill.data.checks import at_least
from distill.data.images import BrokenImage, read_image
from distill.errors import UserError
from distill.evaluation.probes.scores import Labelled, few_shot_score, linear_score, neighbour_score
from distill.phases import phase
from distill.tasks.probes.pooling import pool, token_classes

# Maps RGB images in [0, 1] (B, 3, S, S) to a map (B, C, h, w), or to several, the deepest last.
Features = Callable[[Tensor], Tensor | Sequence[Tensor]]

_TOKENS = 8  # of each class in an image


@dataclass(frozen=True)
class ProbeImages:
    """Images with labels, kept in memory: S * S * 5 bytes each, or S * S * 4 without `pixel_labels`.

    Attributes:
        pixels: uint8 RGB (N, 3, S, S).
        regions: What of each image has its class: bool (N, S, S).
        labels: Classes (N,) int64.
        pixel_labels: Classes of pixels, `IGNORE` where not known: uint8 (N, S, S); None where tokens are not probed.
    """

    pixels: Tensor
    regions: Tensor
    labels: Tensor
    pixel_labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> "Iterator[ProbeImages]":
        """Parts of `size` images, the last may have fewer."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            tokens = None if self.pixel_labels is None else self.pixel_labels[part]
            yield ProbeImages(self.pixels[part], self.regions[part], self.labels[part], tokens)


@dataclass(frozen=True)
class ProbeData:
    """The images of a probe.

    Attributes:
        train: Images that classifiers are fitted to.
        val: Images that they are scored on.
        class_names: Names of `labels`.
        token_names: Names of `pixel_labels`; empty where there are none.
    """

    train: ProbeImages
    val: ProbeImages
    class_names: Sequence[str]
    token_names: Sequence[str] = ()


class ProbeBase:
    """Scores frozen features by simple classifiers on images with labels. A subclass reads the images (`read`).

    All scores are balanced accuracies of validation images, between 0 and 1: `linear` of a linear probe on pooled
    features, `few_shot` of one with few labels (mean over draws), `knn` of nearest neighbours, and `tokens` of a linear
    probe on single tokens. The choice of images and labels depends on no seed of a run, and drawing touches no random
    number of training.

    Args:
        name: Stands in the names of its metrics, `val/probe/<name>/linear`.
        image_size: Side S of the images that the network sees, in pixels.
        shots: Labels of each class in a draw of `few_shot`; null to leave it out.
        draws: Draws of `few_shot`.
        taps: "last" pools the last map, "all" every map, side by side.
        batch_size: Images in one forward pass.
        per_class: At most so many training images of each class, always the same; null for all.
        val_per_class: The same of validation images.

    Raises:
        UserError: An argument is out of its range.
    """

    default_name: ClassVar[str]
    unit: ClassVar[str]  # what has a class
    units: ClassVar[str]
    way_out: ClassVar[str] = "leave it out of `classes`"  # for a class that is nowhere

    def __init__(
        self,
        name: str | None = None,
        image_size: int = 128,
        shots: int | None = 20,
        draws: int = 8,
        taps: str = "last",
        batch_size: int = 64,
        per_class: int | None = 100,
        val_per_class: int | None = 50,
    ) -> None:
        self.name = name or self.default_name
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"the name of a probe is {self.name!r}; use letters, digits, '_' and '-'")
        self.image_size = at_least(self._key("image_size"), image_size, 1)
        self.shots = None if shots is None else at_least(self._key("shots"), shots, 1)
        self.draws = at_least(self._key("draws"), draws, 1)
        if taps not in ("last", "all"):
            raise UserError(f"{self._key('taps')} is {taps!r}; it must be last or all")
        self.taps = taps
        self.batch_size = at_least(self._key("batch_size"), batch_size, 1)
        self.limits = {
            "train": None if per_class is None else at_least(self._key("per_class"), per_class, 1),
            "val": None if val_per_class is None else at_least(self._key("val_per_class"), val_per_class, 1),
        }
        self._read: ProbeData | None = None

    def read(self) -> ProbeData:
        """Reads the images.

        Raises:
            UserError: They cannot be used.
        """
        raise NotImplementedError

    def load(self) -> ProbeData:
        """The images of `read`, kept from the first call on.

        Raises:
            UserError: See `read`; or a class has too few images.
        """
        if self._read is None:
            with phase(f"probe {self.name}: reading images"):
                read = self.read()
            self._require_classes(read)
            self._read = read
        return self._read

    def score(self, features: Features, device: torch.device | str = "cpu") -> dict[str, float]:
        """Scores the features of any model.

        Args:
            features: A student, a teacher, or any function of images; it applies its own mean and standard deviation.
            device: Where it takes images.

        Returns:
            The scores by name: `linear`, `few_shot`, `knn`, `tokens`, as far as there are labels for them.

        Raises:
            UserError: See `load`.
        """
        data = self.load()
        classes, token_classes = len(data.class_names), len(data.token_names)
        train, val = (self.extract(part, features, device) for part in (data.train, data.val))
        scores = {}
        if classes > 1:
            scores["linear"] = linear_score(train[0], val[0], classes)
            if self.shots is not None:
                scores["few_shot"] = few_shot_score(train[0], val[0], classes, self.shots, self.draws)
            scores["knn"] = neighbour_score(train[0], val[0], classes)
        if token_classes:
            scores["tokens"] = linear_score(train[1], val[1], token_classes)
        return scores

    @torch.no_grad()
    def extract(
        self, images: ProbeImages, features: Features, device: torch.device | str = "cpu"
    ) -> tuple[Labelled, Labelled]:
        """The features and labels of one split that the classifiers of `score` use.

        Args:
            images: `train` or `val` of `load`.
            features: See `score`.
            device: See `score`.

        Returns:
            Pooled features of all images, and features of some of their tokens; of the latter none where none are
            probed.
        """
        token_count = len(self.load().token_names)
        pooled: list[Tensor] = []
        tokens: list[Tensor] = []
        token_labels: list[Tensor] = []
        for batch in images.batches(self.batch_size):
            found = features(batch.pixels.to(device).float() / 255)
            every = [found] if isinstance(found, Tensor) else list(found)
            maps = [each.float() for each in (every if self.taps == "all" else every[-1:])]
            regions = batch.regions.to(device)
            pooled.append(torch.cat([pool(each, regions) for each in maps], dim=1).cpu())
            if batch.pixel_labels is not None:
                last = maps[-1]
                grid = (last.shape[-2], last.shape[-1])
                classes = token_classes(batch.pixel_labels, token_count, grid)
                places = some_tokens(classes, token_count)
                tokens.append(last.flatten(2).transpose(1, 2).flatten(0, 1)[places.to(device)].cpu())
                token_labels.append(classes.flatten()[places])
        empty = Labelled(torch.empty(0, 0), torch.empty(0, dtype=torch.int64))
        labelled = Labelled(torch.cat(pooled), images.labels)
        return labelled, Labelled(torch.cat(tokens), torch.cat(token_labels)) if tokens else empty

    def _require_classes(self, data: ProbeData) -> None:
        for what, part in (("validation", data.val), ("training", data.train)):
            counts = torch.bincount(part.labels, minlength=len(data.class_names)).tolist()
            if 0 in counts:
                name = data.class_names[counts.index(0)]
                raise UserError(f"probe {self.name!r}: class {name!r} has no {what} {self.unit}; {self.way_out}")
        fewest = min(counts)
        if self.shots is not None and len(counts) > 1 and fewest < self.shots:
            raise UserError(
                f"{self._key('shots')} is {self.shots}, but class {data.class_names[counts.index(fewest)]!r} has fewer "
                f"training {self.units}, {fewest}; lower it, or set it to null"
            )

    def image(self, path: Path) -> Tensor:
        """uint8 RGB (3, H, W) of an image file.

        Raises:
            UserError: It is missing or broken.
        """
        try:
            return read_image(path)
        except BrokenImage as error:
            raise UserError(f"probe {self.name!r}: {error}") from error

    def _key(self, argument: str) -> str:
        return f"model.probes[{self.name}].{argument}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Weight averaging copies the whole training module; the images would only cost memory twice.
        return self


def some_tokens(classes: Tensor, count: int) -> Tensor:
    """Numbers, in the flattened batch, of at most `_TOKENS` tokens of each class in each image, spread over it.

    Args:
        classes: (B, h, w), or `IGNORE`.
        count: Number of classes.
    """
    flat = classes.flatten(1)
    chosen = []
    for label in range(count):
        here = flat == label
        rank = here.cumsum(dim=1) - 1  # of the token among those of its class in the image
        total = here.sum(dim=1, keepdim=True)
        kept = here & (rank * _TOKENS // total.clamp(min=1) != (rank - 1) * _TOKENS // total.clamp(min=1))
        chosen.append(torch.nonzero(kept.flatten())[:, 0])
    return torch.cat(chosen).sort().values
