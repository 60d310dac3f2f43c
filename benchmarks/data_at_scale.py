"""Images in tars against image files: time to index, memory per image, images read.

    python benchmarks/data_at_scale.py                                # a minute; 2,000 photos, an index of a million
    python benchmarks/data_at_scale.py --images 20000 --names 11000000 --folder DISK

Photos of 640 x 480 pixels with a JSON file beside each are written as folders and as tars of 500. Both are read in the
same random order, by turns: their bytes, and decoded. Times are the processor's, and files just written are in
memory: this compares the cost of finding and opening them, and says nothing of a disk.

The memory is that of the arrays of a synthetic index, beside what a Python path for each image takes.
"""

import argparse
import shutil
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import pytorch_lightning  # noqa: F401  # which the first line of progress would import
import torch
from measuring import Candidate, console, make_table, measure, number, processor
from PIL import Image

from distill.data.image_list import ImageList, PackedImages, list_images
from distill.data.images import decode_image
from distill.data.names import Names
from distill.data.selection import block_order, hash_positions, hold_out_by_position
from distill.data.tar_index import TarIndex

T = TypeVar("T")

PART = 500  # photos in a tar
READ = 200  # images a turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="photos to write and read")
    parser.add_argument("--names", type=int, default=1_000_000, help="entries of the synthetic index")
    parser.add_argument("--folder", type=Path, help="where the photos are written; by default a temporary folder")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        reading(place, arguments.images)
    finally:
        shutil.rmtree(place)
    memory(arguments.names)
    console.print(f"{processor()}")


def reading(place: Path, count: int) -> None:
    """Writes photos both ways, and reads them by turns."""
    write(place, count)
    seconds: dict[str, float] = {}
    lists: dict[str, ImageList] = {}
    for kind, root in (("files", "folders"), ("tars, first time", "tars"), ("tars, index kept", "tars")):
        seconds[kind], lists[kind] = timed(partial(list_images, place / root))
    table = make_table(f"Finding {count:,} photos", "photos as", "CPU seconds", "us an image")
    for kind, taken in seconds.items():
        table.add_row(kind, number(taken), number(1e6 * taken / count))
    console.print(table)
    order = np.random.default_rng(0).permutation(count)[:READ].tolist()
    candidates = {}
    for kind in ("files", "tars, index kept"):
        images = lists[kind]
        candidates[kind, "bytes"] = Candidate(partial(read_all, images, order), clock=time.process_time)
        candidates[kind, "decoded"] = Candidate(partial(decode_all, images, order), clock=time.process_time)
    taken = measure(candidates)
    table = make_table("Images a CPU second, at random", "photos as", "bytes", "decoded", "bytes against files")
    for kind in ("files", "tars, index kept"):
        rates = [len(order) / taken[kind, what] for what in ("bytes", "decoded")]
        ratio = taken["files", "bytes"] / taken[kind, "bytes"]
        table.add_row(kind, *map(number, rates), f"{ratio:.2f}x")
    console.print(table)


def read_all(images: ImageList, order: list[int]) -> None:
    for index in order:
        with images[index].open("rb") as file:
            file.read()


def decode_all(images: ImageList, order: list[int]) -> None:
    for index in order:
        decode_image(images[index])


def write(place: Path, count: int) -> None:
    """Photos in folders, and the same in tars; eight contents, so that writing is quick."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(8):
        smooth = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((640, 480))
        buffer = BytesIO()
        smooth.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    (place / "tars").mkdir()
    for start in range(0, count, PART):
        folder = place / "folders" / f"sa_{start // PART:06d}"
        folder.mkdir(parents=True)
        for index in range(start, min(start + PART, count)):
            (folder / f"sa_{index}.jpg").write_bytes(contents[index % len(contents)])
            (folder / f"sa_{index}.json").write_text("{}", encoding="utf-8")
        with tarfile.open(place / "tars" / f"{folder.name}.tar", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, f"./{path.name}")


def memory(count: int) -> None:
    """An index as SA-1B's, its split, and one epoch in blocks."""
    tar = 11_186  # images of one of SA-1B's
    tars = [Path(f"sa_{part:06d}.tar") for part in range(-(-count // tar))]
    tracemalloc.start()
    with_index = packed(tars, count, tar)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    seconds = {}
    seconds["hashes of the names"], positions = timed(lambda: hash_positions(with_index.names(), count))
    seconds["held-out part"], (train, _) = timed(lambda: hold_out_by_position(positions, 0.05))
    chosen = with_index.only(train)
    seconds["order of an epoch"], _ = timed(lambda: torch.randperm(len(chosen)))
    seconds["order of an epoch in blocks"], _ = timed(
        lambda: block_order(chosen.blocks(), torch.Generator().manual_seed(0))
    )
    few = min(count, 20_000)
    tracemalloc.start()
    paths = [Path("sa1b") / with_index.name(index) for index in range(few)]
    plain = tracemalloc.get_traced_memory()[0] / len(paths)
    tracemalloc.stop()
    table = make_table(f"An index of {count:,} images in {len(tars)} tars", "what", "value")
    table.add_row("bytes an image", number(held / count))
    table.add_row("bytes an image as a list of paths", number(plain))
    for what, taken in seconds.items():
        table.add_row(f"{what}, CPU seconds", number(taken))
    console.print(table)


def packed(tars: list[Path], count: int, tar: int) -> PackedImages:
    """An index of tars that are not there."""

    def index(part: int) -> TarIndex:
        numbers = range(part * tar, min((part + 1) * tar, count))
        offsets = np.arange(len(numbers), dtype=np.int64) * 450_000
        return TarIndex(Names.of(f"sa_{n}.jpg" for n in numbers), offsets, np.full(len(numbers), 440_000))

    with patch("distill.data.image_list.tar_indices", lambda paths: list(map(index, range(len(paths))))):
        return PackedImages(tars)


def timed(run: Callable[[], T]) -> tuple[float, T]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
