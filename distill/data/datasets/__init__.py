"""Published data sets and layouts of labelling tools, one file each: how they lie on disk, and their data modules.

A file with a function `find(folder, on_error)` describes what `distill data prepare` converts. Further arguments of it,
texts or None, are options of the command.
"""

from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from distill.errors import UserError, unknown_name

if TYPE_CHECKING:
    from distill.data.datasets.source import Source

# Read from the sources, because importing a data module imports Lightning.
_FILES = sorted(Path(__file__).parent.glob("*.py"))
NAMES = tuple(path.stem for path in _FILES if "\ndef find(" in path.read_text(encoding="utf-8"))


def find_source(name: str, folder: str | Path, on_error: str = "raise", **options: str) -> "Source":
    """Finds a data set in a folder, in whichever of its layouts.

    Args:
        name: One of `NAMES`.
        folder: Where the archive was unpacked.
        on_error: "skip" leaves out unusable objects of COCO files, and images and labels without counterpart; "raise"
            stops at the first.
        **options: Further arguments of the data set's `find`.

    Raises:
        UserError: No such data set, option or folder, the folder has none of the layouts, or (under "raise") there is
            something to leave out.
    """
    from distill.data.checks import existing_folder

    if name not in NAMES:
        raise unknown_name("data set", name, NAMES)
    module: ModuleType = import_module(f"{__name__}.{name}")
    for option in options.keys() - signature(module.find).parameters.keys():
        raise UserError(f"--{option.replace('_', '-')} is no option of {name}; leave it out")
    source: Source = module.find(existing_folder("--source", str(folder)), on_error, **options)
    return source
