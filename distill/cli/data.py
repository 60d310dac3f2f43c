"""`distill data`: prepare a published data set, verify any, preview it.

A report is a result, not a failure: `verify` ends with code 0 whatever it finds, with 2 if nothing can be checked.
"""

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from distill.cli.console import table_console
from distill.data.sources import NAMES
from distill.errors import UserError


def run(words: list[str]) -> None:
    """Runs `distill data prepare | verify | preview`."""
    parser = argparse.ArgumentParser("distill data", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    prepare = actions.add_parser("prepare", help="convert a published data set to COCO, with a manifest")
    prepare.add_argument("name", help=f"which one: {', '.join(NAMES)}")
    prepare.add_argument("--source", type=Path, required=True, help="folder where its archive was unpacked")
    prepare.add_argument("--target", type=Path, help="folder to write; by default data/NAME")
    prepare.add_argument(
        "--on-error", default="raise", help="raise: stop at what cannot be used; skip: leave it out and list it"
    )
    verify = actions.add_parser("verify", help="check files, records, masks, classes and splits")
    verify.add_argument(
        "roots", nargs="+", help="prepared data sets by name or folder; or COCO files, the parts of one"
    )
    verify.add_argument("--images", type=Path, help="folder of the images, where it is not found by itself")
    verify.add_argument("--bands", type=int, nargs="+", help="which bands are shown, as data.bands of a recipe: 4 3 2")
    verify.add_argument(
        "--overlaps",
        action="store_true",
        help="look for overlapping crops too; compares each image of a part with each of the others, a minute for 468 "
        "with 122, nearly two hours for ten times as many of both",
    )
    verify.add_argument("--json", action="store_true", help="print the report for programs, with every case")
    preview = actions.add_parser("preview", help="draw images with boxes, masks and class names")
    preview.add_argument("root", help="a prepared data set by name or folder, or a COCO file")
    preview.add_argument("--output", type=Path, required=True, help="PNG file to write")
    preview.add_argument("--part", help="which annotation file, for example val; by default the first")
    preview.add_argument("--images", type=Path, help="folder of the images, where it is not found by itself")
    preview.add_argument("--image", nargs="+", default=[], metavar="NAME", help="draw these, with the ids of objects")
    preview.add_argument("--bands", type=int, nargs="+", help="which bands are shown, as data.bands of a recipe: 4 3 2")
    preview.add_argument("--count", type=int, default=12, help="how many images")
    preview.add_argument("--seed", type=int, default=0, help="another seed shows other images")
    arguments = parser.parse_args(words[1:])
    {"prepare": _prepare, "verify": _verify, "preview": _preview}[arguments.action](arguments)


def _prepare(arguments: argparse.Namespace) -> None:
    from distill.data.conversion import MANIFEST, prepare

    target = arguments.target or Path("data") / arguments.name
    done = prepare(arguments.name, arguments.source, target, arguments.on_error, _track)
    manifest = done.manifest
    if not done.changed:
        print(f"{done.root} is up to date: {len(manifest['outputs'])} files match {MANIFEST}; nothing to do")
        return
    print(f"wrote {done.root} from {manifest['layout']}")
    for split, counts in manifest["splits"].items():
        print(f"  annotations/{split}.json  {counts['images']} images, {counts['objects']} objects")
    if skipped := manifest["skipped"]:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in manifest["skipped_by_kind"].items())
        print(f"  left out {len(skipped)} ({kinds}), all listed in {MANIFEST}; the first: {skipped[0]}")
    print(f"next: distill data verify {done.root}")


def _verify(arguments: argparse.Namespace) -> None:
    from distill.data.checks import band_numbers
    from distill.data.images import is_file
    from distill.data.verification import find_parts, verify

    roots = [_root(name) for name in arguments.roots]
    folders = [root for root in roots if not is_file(root)]
    files = [root for root in roots if is_file(root)]
    sets = [(str(root), find_parts(root, images=arguments.images)) for root in folders]
    if files:
        sets.append((", ".join(map(str, files)), find_parts(*files, images=arguments.images)))
    bands = band_numbers("--bands", arguments.bands)
    reports = [verify(name, parts, arguments.overlaps, _track, bands) for name, parts in sets]
    if arguments.json:
        print(json.dumps([report.as_json() for report in reports], indent=1))
        return
    for report in reports:
        report.print(table_console())


def _preview(arguments: argparse.Namespace) -> None:
    from distill.data.annotations import CocoAnnotations
    from distill.data.checks import at_least, band_numbers
    from distill.data.preview import contact_sheet
    from distill.data.verification import find_parts
    from distill.errors import unknown_name
    from distill.report.figures import save

    at_least("--count", arguments.count, 1)
    at_least("--seed", arguments.seed, 0)
    if arguments.output.suffix.lower() != ".png":
        raise UserError(f"--output {str(arguments.output)!r} must end in .png")
    logging.basicConfig(format="%(message)s")
    parts = {part.name: part for part in find_parts(_root(arguments.root), images=arguments.images)}
    name = arguments.part or next(iter(parts))
    if name not in parts:
        raise unknown_name("--part", name, parts)
    annotations = CocoAnnotations(parts[name].annotations, on_error="skip")
    bands = band_numbers("--bands", arguments.bands)
    sheet = contact_sheet(annotations, parts[name].images, arguments.count, arguments.seed, arguments.image, bands)
    save(sheet, arguments.output)
    print(f"wrote {arguments.output}")


def _root(name: str) -> Path:
    """The path, or the place where `prepare` writes the data set of that name."""
    path = Path(name)
    return Path("data") / name if name in NAMES and not path.exists() else path


def _track(sequence: Sequence[Any], description: str) -> Iterable[Any]:
    """Progress on the error stream of a terminal, so that the output stays clean."""
    console = Console(stderr=True)
    return track(sequence, description, console=console, transient=True, disable=not console.is_terminal)
