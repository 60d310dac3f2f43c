"""`distill data verify`: check files, records, masks, classes and splits.

The exit code is 0 whatever the report says, and 2 if nothing can be checked.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cli.console import table_console
from distill.cli.data_options import add_source_options, data_set_path, refuse_root, show_progress

if TYPE_CHECKING:
    from distill.curate.verify.report import Report


def add_parser(actions: Any) -> argparse.ArgumentParser:
    """Declares the arguments."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "verify", help="check files, records, masks, classes and splits", description=__doc__
    )
    parser.add_argument(
        "roots",
        nargs="+",
        help="prepared data sets by name or folder; COCO files, the parts of one; or recipes, for land cover too",
    )
    parser.add_argument("--root", type=Path, help="folder of the data set, in place of data.root of a recipe")
    add_source_options(parser)
    parser.add_argument(
        "--overlaps",
        action="store_true",
        help="look for overlapping crops too; compares each image of a part with each of the others, a minute for 468 "
        "with 122, nearly two hours for ten times as many of both",
    )
    parser.add_argument("--all", action="store_true", help="list every finding with every case")
    parser.add_argument("--json", action="store_true", help="print the report for programs, with every case")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Prints the report of each data set."""
    reports = _reports(arguments)
    if arguments.json:
        print(json.dumps([report.as_json() for report in reports], indent=1))
        return
    for report in reports:
        report.print(table_console(), arguments.all)


def _reports(arguments: argparse.Namespace) -> "list[Report]":
    from distill.curate.verify import find_parts, parts_of, verify_instances, verify_landcover
    from distill.data.checks import band_numbers
    from distill.data.images import is_file
    from distill.data.semantic import SemanticImages
    from distill.launch.recipe_data import is_recipe, labelled_data

    recipes = [name for name in arguments.roots if is_recipe(name)]
    refuse_root(arguments.root, recipes)
    paths = [data_set_path(name) for name in arguments.roots if name not in recipes]
    bands, overlaps = band_numbers("--bands", arguments.bands), arguments.overlaps
    reports: list[Report] = []
    for name in recipes:
        module = labelled_data(name, arguments.root)
        if isinstance(module, SemanticImages):
            reports.append(verify_landcover(name, module, overlaps, show_progress, bands))
        else:
            reports.append(verify_instances(name, parts_of(module), overlaps, show_progress, bands or module.bands))
    files = [path for path in paths if is_file(path)]
    sets = [[path] for path in paths if path not in files] + ([files] if files else [])
    for one in sets:
        parts = find_parts(*one, images=arguments.images)
        reports.append(verify_instances(", ".join(map(str, one)), parts, overlaps, show_progress, bands))
    return reports
