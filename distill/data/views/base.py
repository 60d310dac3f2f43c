"""Base of all views of images: random ones in training, fixed ones in evaluation, broken images.

A view is a square or whole reading of an image, together with what is labelled in it.
"""

from typing import Any, TypeVar

from torch.utils.data import Dataset

from distill.data.broken import BrokenImages
from distill.data.reader import ImageReader
from distill.data.sample_key import SampleKey, randomness_of

T = TypeVar("T")


class Views(Dataset[T]):
    """Images as views. A subclass reads a file (`read`) and shows it (`fixed`, `random`).

    Indexed with a `SampleKey` it gives a training view, a function of (seed, key). Indexed with an integer it gives the
    fixed view of evaluation.

    Attributes:
        image_size: Side S of the views in pixels, where a key says no other.

    Args:
        count: Number of images.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the training views.
        reader: Reads the files; by default with the bands that `distill.data.images.read_image` chooses.
    """

    image_size: int

    def __init__(self, count: int, on_error: str, seed: int = 0, reader: ImageReader | None = None) -> None:
        self.seed = seed
        self.broken = BrokenImages(count, on_error)
        self.reader = reader or ImageReader(count)

    def __len__(self) -> int:
        return len(self.broken)

    def __getitem__(self, key: SampleKey | int) -> T:
        """The view; of the next readable image where this one is broken (under "skip")."""
        index = key if isinstance(key, int) else key.index
        index, content = self.broken.read(index, self.read)
        if isinstance(key, int):
            return self.fixed(index, content)
        with randomness_of(self.seed, key):
            return self.random(index, content, key.size or self.image_size)

    def read(self, index: int) -> Any:
        """What the files of an image hold.

        Raises:
            BrokenImage: They cannot be used.
        """
        raise NotImplementedError

    def fixed(self, index: int, content: Any) -> T:
        """The view of evaluation."""
        raise NotImplementedError

    def random(self, index: int, content: Any, size: int) -> T:
        """A training view of side `size`; draws from torch's global generator, as much for every side."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """The image, as `skipped` names it."""
        raise NotImplementedError

    @property
    def skipped(self) -> list[str]:
        """Names of the broken images found so far."""
        return [self.name(index) for index in self.broken.indices]
