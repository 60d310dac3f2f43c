"""Published data sets as they are unpacked: which layouts there are, and how each is read."""

from importlib import import_module
from pathlib import Path

from distill.data.checks import existing_folder
from distill.data.datasets.source import Source
from distill.errors import unknown_name

# Each is a module of this package with the class names CLASSES and a function `find(folder, on_error)`.
NAMES = ("hrsid", "nwpu", "ssdd", "whu")


def find_source(name: str, folder: str | Path, on_error: str = "raise") -> Source:
    """Finds a published data set in a folder, in whichever of its layouts.

    Args:
        name: One of `NAMES`.
        folder: Where the archive was unpacked.
        on_error: "skip" leaves out unusable objects of COCO files, and images and labels without counterpart; "raise"
            stops at the first.

    Raises:
        UserError: No such data set or folder, the folder has none of the layouts, or (under "raise") there is something
            to leave out.
    """
    if name not in NAMES:
        raise unknown_name("data set", name, NAMES)
    source: Source = import_module(f"distill.data.datasets.{name}_layout").find(
        existing_folder("--source", str(folder)), on_error
    )
    return source
