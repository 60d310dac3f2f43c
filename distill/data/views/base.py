"""Base of all views of images: random ones in training, fixed ones in evaluation, broken images.

A view is a square or whole reading of an image, together with what is labelled in it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.data import Dataset

from distill.data.broken import BrokenImages
from distill.data.reader import ImageReader
from distill.data.sample_key import SampleKey, randomness_of

T = TypeVar("T")
# Called with what the views were indexed with and the sample, which it may add to.
Addition = Callable[[SampleKey | int, Any], Any]


class Views(Dataset[T]):
    """Images as views. A subclass reads a file (`read`) and shows it (`fixed`, `random`).

    Indexed with a `SampleKey` it gives a training view, a function of (seed, key). Indexed with an integer it gives the
    fixed view of evaluation.

    Args:
        count: Number of images.
        on_error: What to do with broken images, see `BrokenImages`.
        seed: Seed of the training views.
        reader: Reads the files; by default with the bands that `distill.data.images.read_image` chooses.

    Attributes:
        image_size: Side S of the views in pixels, where a key says no other.
        addition: Completes each sample where it is read, in the loader's workers, for example by stored targets of its
            view; nothing by default.
    """

    image_size: int
    addition: Addition | None = None

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
            sample = self.fixed(index, content)
        else:
            with randomness_of(self.seed, key):
                sample = self.random(index, content, key.size or self.image_size)
        return sample if self.addition is None else self.addition(key, sample)

    def read(self, index: int) -> Any:
        """Reads the files of an image.

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
