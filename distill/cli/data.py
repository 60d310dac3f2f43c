"""`distill data`: prepare a published data set, verify any, preview it.

A report is a result, not a failure: `verify` ends with code 0 whatever it finds, with 2 if nothing can be checked.
"""

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from distill.cli.console import table_console
from distill.data.datasets import NAMES
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.curate.verify.report import Report
    from distill.data.label_pairs import Pair


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
        "roots",
        nargs="+",
        help="prepared data sets by name or folder; COCO files, the parts of one; or recipes, for land cover too",
    )
    verify.add_argument("--root", type=Path, help="folder of the data set, in place of data.init_args.root of a recipe")
    verify.add_argument("--images", type=Path, help="folder of the images, where it is not found by itself")
    verify.add_argument("--bands", type=int, nargs="+", help="which bands are shown, as data.bands of a recipe: 4 3 2")
    verify.add_argument(
        "--overlaps",
        action="store_true",
        help="look for overlapping crops too; compares each image of a part with each of the others, a minute for 468 "
        "with 122, nearly two hours for ten times as many of both",
    )
    verify.add_argument("--all", action="store_true", help="list every finding with every case")
    verify.add_argument("--json", action="store_true", help="print the report for programs, with every case")
    preview = actions.add_parser("preview", help="draw images with boxes, masks and class names")
    preview.add_argument("root", help="a prepared data set by name or folder, a COCO file, or a recipe")
    preview.add_argument("--root", dest="data_root", type=Path, help="in place of data.init_args.root of a recipe")
    preview.add_argument("--output", type=Path, required=True, help="PNG file to write")
    preview.add_argument("--part", help="which annotation file or split, for example val; by default the first")
    preview.add_argument("--images", type=Path, help="folder of the images, where it is not found by itself")
    preview.add_argument("--image", nargs="+", default=[], metavar="NAME", help="draw these, with the ids of objects")
    preview.add_argument("--bands", type=int, nargs="+", help="which bands are shown, as data.bands of a recipe: 4 3 2")
    preview.add_argument("--count", type=int, default=12, help="how many images")
    preview.add_argument("--seed", type=int, default=0, help="another seed shows other images")
    arguments = parser.parse_args(words[1:])
    {"prepare": _prepare, "verify": _verify, "preview": _preview}[arguments.action](arguments)


def _prepare(arguments: argparse.Namespace) -> None:
    from distill.curate.prepare import MANIFEST, prepare

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
    from distill.curate.verify import find_parts, verify, verify_landcover
    from distill.data.checks import band_numbers
    from distill.data.images import is_file
    from distill.data.semantic import SemanticImages
    from distill.launch.recipe_data import data_module, is_recipe, parts_of

    recipes = [name for name in arguments.roots if is_recipe(name)]
    _refuse_root(arguments.root, recipes)
    roots = [_root(name) for name in arguments.roots if name not in recipes]
    bands = band_numbers("--bands", arguments.bands)
    reports: list[Report] = []
    for name in recipes:
        module = data_module(name, arguments.root)
        if isinstance(module, SemanticImages):
            reports.append(verify_landcover(name, module, arguments.overlaps, _track, bands))
        else:
            reports.append(verify(name, parts_of(module), arguments.overlaps, _track, bands or module.bands))
    files = [root for root in roots if is_file(root)]
    sets = [(str(root), find_parts(root, images=arguments.images)) for root in roots if root not in files]
    if files:
        sets.append((", ".join(map(str, files)), find_parts(*files, images=arguments.images)))
    reports += [verify(name, parts, arguments.overlaps, _track, bands) for name, parts in sets]
    if arguments.json:
        print(json.dumps([report.as_json() for report in reports], indent=1))
        return
    for report in reports:
        report.print(table_console(), arguments.all)


def _preview(arguments: argparse.Namespace) -> None:
    from distill.curate.preview import class_sheet, contact_sheet
    from distill.curate.verify import find_parts
    from distill.data.annotations import CocoAnnotations
    from distill.data.checks import at_least, band_numbers
    from distill.data.semantic import SPLITS, SemanticImages
    from distill.errors import unknown_name
    from distill.launch.recipe_data import data_module, is_recipe, parts_of
    from distill.report.figures import save

    at_least("--count", arguments.count, 1)
    at_least("--seed", arguments.seed, 0)
    if arguments.output.suffix.lower() != ".png":
        raise UserError(f"--output {str(arguments.output)!r} must end in .png")
    logging.basicConfig(format="%(message)s")
    bands = band_numbers("--bands", arguments.bands)
    module = data_module(arguments.root, arguments.data_root) if is_recipe(arguments.root) else None
    _refuse_root(arguments.data_root, [arguments.root] if module is not None else [])
    if isinstance(module, SemanticImages):
        split = arguments.part or SPLITS[0]
        if split not in SPLITS:
            raise unknown_name("--part", split, SPLITS)
        pairs = module.find(split)
        if arguments.image:
            pairs = [_pair_named(name, pairs) for name in arguments.image]
        sheet = class_sheet(
            pairs, module.table, len(arguments.image) or arguments.count, arguments.seed, bands or module.bands
        )
    else:
        found = parts_of(module) if module is not None else find_parts(_root(arguments.root), images=arguments.images)
        parts = {part.name: part for part in found}
        name = arguments.part or next(iter(parts))
        if name not in parts:
            raise unknown_name("--part", name, parts)
        annotations = CocoAnnotations(parts[name].annotations, on_error="skip")
        bands = bands or (None if module is None else module.bands)
        sheet = contact_sheet(annotations, parts[name].images, arguments.count, arguments.seed, arguments.image, bands)
    save(sheet, arguments.output)
    print(f"wrote {arguments.output}")


def _pair_named(name: str, pairs: "Sequence[Pair]") -> "Pair":
    found = [pair for pair in pairs if name in (pair.image.name, pair.image.stem, str(pair.image))]
    if not found:
        raise UserError(f"--image {name!r} is no image of that part; its first is {pairs[0].image.name!r}")
    return found[0]


def _refuse_root(root: Path | None, recipes: Sequence[str]) -> None:
    if root is not None and not recipes:
        raise UserError(f"--root {str(root)!r} belongs to a recipe; name a recipe, or give the folder alone")


def _root(name: str) -> Path:
    """The path, or the place where `prepare` writes the data set of that name."""
    path = Path(name)
    return Path("data") / name if name in NAMES and not path.exists() else path


def _track(sequence: Sequence[Any], description: str) -> Iterable[Any]:
    """Progress on the error stream of a terminal, so that the output stays clean."""
    console = Console(stderr=True)
    return track(sequence, description, console=console, transient=True, disable=not console.is_terminal)
