"""Options and output that the actions of `distill data` share."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from distill.data.datasets import NAMES
from distill.errors import UserError

if TYPE_CHECKING:
    from distill.curate.target import Written


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where the images of a data set are and how they are read."""
    parser.add_argument("--images", type=Path, help="folder of the images, where it is not found by itself")
    parser.add_argument("--bands", type=int, nargs="+", help="which bands are shown, as data.bands of a recipe: 4 3 2")


def refuse_root(root: Path | None, recipes: Sequence[str]) -> None:
    """Refuses `--root` if no recipe is named that it could belong to.

    Raises:
        UserError: It is given, and there is no recipe.
    """
    if root is not None and not recipes:
        raise UserError(f"--root {str(root)!r} belongs to a recipe; name a recipe, or give the folder alone")


def data_set_path(name: str) -> Path:
    """The path, or the folder where `distill data prepare` writes the data set of that name."""
    path = Path(name)
    return Path("data") / name if name in NAMES and not path.exists() else path


def show_progress(sequence: Sequence[Any], description: str) -> Iterable[Any]:
    """Shows progress on the error stream of a terminal, so that the output stays clean."""
    console = Console(stderr=True)
    return track(sequence, description, console=console, transient=True) if console.is_terminal else sequence


def print_unchanged(done: "Written") -> None:
    """Says that a folder was there already."""
    from distill.curate.manifest import MANIFEST

    print(f"{done.root} is up to date: {len(done.manifest['outputs'])} files match {MANIFEST}; nothing to do")


def print_skipped(done: "Written") -> None:
    """Says what was left out, if anything was."""
    from distill.curate.manifest import MANIFEST

    if skipped := done.manifest["skipped"]:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in done.manifest["skipped_by_kind"].items())
        print(f"  left out {len(skipped)} ({kinds}), all listed in {MANIFEST}; the first: {skipped[0]}")
