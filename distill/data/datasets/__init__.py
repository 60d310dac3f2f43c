"""Published data sets, one file each: their layouts on disk, and their data modules.

A file with a function `find(folder, on_error)` describes a data set that `distill data prepare` converts.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from distill.data.checks import existing_folder
from distill.data.datasets.source import Source
from distill.errors import unknown_name

# Read from the sources, because importing a data module imports Lightning.
_FILES = sorted(Path(__file__).parent.glob("*.py"))
NAMES = tuple(path.stem for path in _FILES if "\ndef find(" in path.read_text(encoding="utf-8"))


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
    module: ModuleType = import_module(f"{__name__}.{name}")
    source: Source = module.find(existing_folder("--source", str(folder)), on_error)
    return source
