"""`distill data prepare`: convert a published data set, or what a labelling tool wrote, to COCO, with a manifest."""

import argparse
from pathlib import Path
from typing import Any

from distill.cli.data_options import print_skipped, print_unchanged, show_progress
from distill.data.datasets import NAMES


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Declares the arguments."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "prepare", help="convert a published data set, or what a labelling tool wrote, to COCO"
    )
    parser.add_argument("name", help=f"which one: {', '.join(NAMES)}")
    parser.add_argument("--source", type=Path, required=True, help="folder where its archive was unpacked")
    parser.add_argument("--target", type=Path, help="folder to write; by default data/NAME")
    parser.add_argument(
        "--on-error", default="raise", help="raise: stop at what cannot be used; skip: leave it out and list it"
    )
    parser.add_argument("--class-key", help='of geojson: the property that names the class; by default "class"')
    parser.add_argument("--class-name", help="of geojson: the class of all features, in place of a property")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Converts the data set and prints what was written and left out."""
    from distill.curate.prepare import prepare

    target = arguments.target or Path("data") / arguments.name
    options = {"class_key": arguments.class_key, "class_name": arguments.class_name}
    given = {option: value for option, value in options.items() if value is not None}
    done = prepare(arguments.name, arguments.source, target, arguments.on_error, show_progress, given)
    manifest = done.manifest
    if not done.changed:
        print_unchanged(done)
        return
    print(f"wrote {done.root} from {manifest['layout']}")
    for split, counts in manifest["splits"].items():
        print(f"  annotations/{split}.json  {counts['images']} images, {counts['objects']} objects")
    print_skipped(done)
    print(f"next: distill data verify {done.root}")
