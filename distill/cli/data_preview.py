"""`distill data preview`: draw images with boxes, masks and class names, or with their classes."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cli.data_options import add_source_options, data_set_path, refuse_root
from distill.errors import UserError, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distill.data.coco import CocoInstances
    from distill.data.semantic import SemanticImages


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Declares the arguments."""
    parser: argparse.ArgumentParser = actions.add_parser("preview", help="draw images with boxes, masks and names")
    parser.add_argument("root", help="a prepared data set by name or folder, a COCO file, or a recipe")
    parser.add_argument("--root", dest="data_root", type=Path, help="in place of data.root of a recipe")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--part", help="which annotation file or split, for example val; by default the first")
    add_source_options(parser)
    parser.add_argument("--image", nargs="+", default=[], metavar="NAME", help="draw these, with the ids of objects")
    parser.add_argument("--count", type=int, default=12, help="how many images")
    parser.add_argument("--seed", type=int, default=0, help="another seed shows other images")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Writes the contact sheet."""
    from distill.data.checks import at_least, band_numbers
    from distill.data.semantic import SemanticImages
    from distill.launch.recipe_data import is_recipe, labelled_data
    from distill.report.figures import save

    at_least("--count", arguments.count, 1)
    at_least("--seed", arguments.seed, 0)
    if arguments.output.suffix.lower() != ".png":
        raise UserError(f"--output {str(arguments.output)!r} must end in .png")
    logging.basicConfig(format="%(message)s")
    bands = band_numbers("--bands", arguments.bands)
    module = labelled_data(arguments.root, arguments.data_root) if is_recipe(arguments.root) else None
    refuse_root(arguments.data_root, [arguments.root] if module is not None else [])
    if isinstance(module, SemanticImages):
        figure = _classes(arguments, module, bands)
    else:
        figure = _instances(arguments, module, bands)
    save(figure, arguments.output)
    print(f"wrote {arguments.output}")


def _classes(arguments: argparse.Namespace, module: "SemanticImages", bands: list[int] | None) -> "Figure":
    from distill.curate.preview import class_sheet
    from distill.data.base import SPLITS

    split = arguments.part or SPLITS[0]
    if split not in SPLITS:
        raise unknown_name("--part", split, SPLITS)
    bands = bands or module.bands
    return class_sheet(module.find(split), module.table, arguments.count, arguments.seed, arguments.image, bands)


def _instances(arguments: argparse.Namespace, module: "CocoInstances | None", bands: list[int] | None) -> "Figure":
    from distill.curate.preview import contact_sheet
    from distill.curate.verify import find_parts, parts_of
    from distill.data.annotations import CocoAnnotations

    if module is None:
        found = find_parts(data_set_path(arguments.root), images=arguments.images)
    else:
        found, bands = parts_of(module), bands or module.bands
    parts = {part.name: part for part in found}
    name = arguments.part or next(iter(parts))
    if name not in parts:
        raise unknown_name("--part", name, parts)
    annotations = CocoAnnotations(parts[name].annotations, on_error="skip")
    return contact_sheet(annotations, parts[name].images, arguments.count, arguments.seed, arguments.image, bands)
