"""The folder of a cache: its files, and the place of each view's entry.

`cache.json` says what the entries are, `vVV-NNNNN.safetensors` hold those of training view VV, `val-NNNNN.safetensors`
those of the validation views. Shard NNNNN holds positions [k * n, (k + 1) * n) of the images in the order of their
names, so that the address of an entry is arithmetic and no table of keys is needed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.files import read_json, write_json
from distill.targets.cache.key import FORMAT, digest_of
from distill.targets.rounding import DTYPES

SHARD_BYTES = 256 << 20
VALIDATION = "val"


@dataclass(frozen=True)
class StoredTarget:
    """One feature of the teacher.

    Attributes:
        shape: C, h and w of a map.
        reduction: Stride of the teacher's feature, in pixels of its own view.
    """

    shape: tuple[int, int, int]
    reduction: int


@dataclass(frozen=True)
class Shard:
    """One file: `count` entries of a view, from position `first` on."""

    view: str
    number: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.view}-{self.number:05d}.safetensors"


@dataclass(frozen=True)
class CacheInfo:
    """The content of `cache.json`.

    Attributes:
        key: What the targets depend on.
        targets: By name of the feature; `feature@size` where the teacher gets views of another size than the student.
        dtype: Their precision.
        views: Size V of the pool of training views.
        images: Number of training images.
        validation_images: Number of validation images.
        shard_entries: Entries n of a shard; the last one of a view may have fewer.
        batch_size: Images that the teacher saw at once.
        teacher: Its class, label and digest.
        costs: Parameters and multiply-adds of the teacher.
        made_with: Versions and the processor, which decide what a view looks like.
        weights: Of the teacher's file, if it has one, as `distill.targets.cache.key.file_facts` says it.
        broken: Names of images that could not be read and that the next readable one stands in for.
        complete: Whether all shards were written.
    """

    key: dict[str, Any]
    targets: dict[str, StoredTarget]
    dtype: str
    views: int
    images: int
    validation_images: int
    shard_entries: int
    batch_size: int
    teacher: dict[str, str]
    costs: dict[str, int] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    broken: tuple[str, ...] = ()
    complete: bool = False

    @property
    def entry_bytes(self) -> int:
        """Size of one entry."""
        return entry_bytes({name: one.shape for name, one in self.targets.items()}, self.dtype)

    @property
    def total_bytes(self) -> int:
        """Size of all entries."""
        return self.entry_bytes * (self.images * self.views + self.validation_images)

    def shards(self) -> Iterator[Shard]:
        """All shards in order: views of training, then the validation views."""
        parts = [(view_name(view), self.images) for view in range(self.views)]
        for view, count in [*parts, (VALIDATION, self.validation_images)]:
            for number, first in enumerate(range(0, count, self.shard_entries)):
                yield Shard(view, number, first, min(self.shard_entries, count - first))

    def shard_of(self, view: str, position: int) -> tuple[Shard, int]:
        """The shard of a position, and the entry in it."""
        count = self.validation_images if view == VALIDATION else self.images
        number, entry = divmod(position, self.shard_entries)
        first = number * self.shard_entries
        return Shard(view, number, first, min(self.shard_entries, count - first)), entry


class CacheFolder:
    """A cache on the disk.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    @property
    def header(self) -> Path:
        """The path of `cache.json`."""
        return self.root / "cache.json"

    @property
    def locks(self) -> Path:
        """The file of locks: byte 0 locks the header, byte k + 1 the k-th shard."""
        return self.root / ".locks"

    def path(self, shard: Shard) -> Path:
        """The file of a shard."""
        return self.root / shard.name

    def missing(self, info: CacheInfo) -> list[tuple[int, Shard]]:
        """The shards that are not written yet, with their index."""
        return [(place, shard) for place, shard in enumerate(info.shards()) if not self.path(shard).is_file()]

    def read(self) -> CacheInfo:
        """Reads `cache.json`.

        Raises:
            UserError: There is no such file, or it is of another version.
        """
        if not self.header.is_file():
            raise UserError(
                f"model.cache.root: {self} holds no cache; make it with `distill cache RECIPE --out {self}`, or set "
                "model.cache.root to null, for a teacher that runs in every step"
            )
        content = read_json(self.header)
        if content.get("key", {}).get("format") != FORMAT:
            raise UserError(f"{self.header} is of another version of distill; make the cache anew with another --out")
        targets = {
            name: StoredTarget(tuple(one["shape"]), one["reduction"]) for name, one in content["targets"].items()
        }
        names = CacheInfo.__dataclass_fields__
        known = {name: value for name, value in content.items() if name in names}
        return CacheInfo(**known | {"targets": targets, "broken": tuple(content["broken"])})

    def write(self, info: CacheInfo) -> None:
        """Writes `cache.json`."""
        content = asdict(info) | {
            "digest": digest_of(info.key),
            "entry_bytes": info.entry_bytes,
            "total_bytes": info.total_bytes,
        }
        write_json(self.header, content)


def view_name(view: int) -> str:
    """The name of the shards of a training view."""
    return f"v{view:02d}"


def entry_bytes(shapes: Mapping[str, tuple[int, int, int]], dtype: str) -> int:
    """Size of one entry: targets, scales, digest of the view (8) and checksum (8)."""
    item = DTYPES[dtype].itemsize
    values = sum(channels * height * width * item for channels, height, width in shapes.values())
    scales = sum(4 * channels for channels, _, _ in shapes.values()) if dtype == "int8" else 0
    return values + scales + 16


def shard_entries(size: int, batch_size: int, shard_bytes: int = SHARD_BYTES) -> int:
    """Entries of a shard of about `shard_bytes`: a multiple of the batch, so that no batch crosses a shard.

    Args:
        size: Of an entry, in bytes.
        batch_size: Images that the teacher sees at once.
        shard_bytes: How large a shard should be.
    """
    return batch_size * max(1, shard_bytes // (size * batch_size))
