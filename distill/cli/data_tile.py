"""`distill data tile`: cut large images, with their objects or their labels, into tiles to train on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cli.data_options import print_skipped, print_unchanged, show_progress
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.curate.target import Written
    from distill.curate.tile.labels import Value


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Declares the arguments."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "tile", help="cut large images, with their objects or labels, into tiles to train on", description=__doc__
    )
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument(
        "--annotations", type=Path, nargs="+", metavar="PATH", help="COCO files, or the folder of a data set with some"
    )
    truth.add_argument("--labels", type=Path, help="folder of the masks of land cover, named as their images")
    parser.add_argument("--images", type=Path, help="folder of the images; of a data set it is found by itself")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tile", type=int, required=True, help="side of a tile in pixels")
    parser.add_argument("--overlap", type=int, help="least overlap in pixels; by default a quarter of a tile")
    parser.add_argument(
        "--min-visible",
        type=float,
        default=0.4,
        help="share of an object's pixels that a tile must show for it to be an object there; default 0.4",
    )
    parser.add_argument(
        "--remainders", default="ignore", help="what becomes of smaller parts: ignore (regions to ignore) or drop"
    )
    parser.add_argument(
        "--empty", type=float, default=0.1, help="share of tiles without object or label that is kept; default 0.1"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed keeps other empty tiles")
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        metavar="VALUE",
        help="values of masks (255) or colours (0,0,0) that mean 'not labelled', beside nodata",
    )
    parser.add_argument(
        "--on-error", default="raise", help="raise: stop at what cannot be used; skip: leave it out and list it"
    )
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Cuts the tiles and prints their counts."""
    from distill.curate.tile import TileSettings, tile_instances, tile_labels

    settings = TileSettings(
        arguments.tile,
        arguments.overlap,
        arguments.min_visible,
        arguments.remainders,
        arguments.empty,
        arguments.seed,
    )
    done: Written
    if arguments.annotations is not None:
        if arguments.ignore:
            raise UserError("--ignore is for the values of --labels; leave it out, or give --labels")
        done = tile_instances(
            arguments.annotations, arguments.images, arguments.out, settings, arguments.on_error, show_progress
        )
    elif arguments.images is None:
        raise UserError("--labels needs --images, the folder of the images that they belong to")
    else:
        ignore = [_value(text) for text in arguments.ignore]
        done = tile_labels(
            arguments.images, arguments.labels, arguments.out, settings, ignore, arguments.on_error, show_progress
        )
    manifest = done.manifest
    if not done.changed:
        print_unchanged(done)
        return
    print(f"wrote {done.root}")
    for part, counts in manifest["parts"].items():
        last = sorted(counts.items(), key=lambda count: count[0].endswith("left out"))
        said = "; ".join(f"{count} {what}" for what, count in last)
        print(f"  {'' if part == '.' else f'annotations/{part}.json  '}{said}")
    print_skipped(done)
    if arguments.annotations is not None:
        print(f"next: distill data verify {done.root}")


def _value(text: str) -> "Value":
    """A value of a mask, or a colour.

    Raises:
        UserError: The text is neither.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    raise UserError(f"--ignore {text!r} is neither a whole number such as 255 nor a colour such as 0,0,0")
