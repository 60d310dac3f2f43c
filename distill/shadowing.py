"""Folders that hide packages of this project, whose names are short: `heads`, `recipes`, `students`, `teachers`.

Python looks for a package in the folder of the script, in that of a notebook, or with `python -m` in the current one,
before it looks at what is installed.
"""

import sys
import warnings
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGES = ("heads", "recipes", "students", "teachers")
_ROOT = Path(__file__).resolve().parents[1]


def hidden_packages() -> dict[str, Path]:
    """Packages that `import` would take from elsewhere than beside `distill`, and from where."""
    found = {}
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None:
            continue
        places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
        if _ROOT / name not in places:
            found[name] = places[0]
    return found


def warn_of_hidden_packages() -> None:
    """Warns of every folder or file that hides a package, in one line."""
    if sys.argv[:1] == ["-m"]:  # `python -m distill` is being located: the command brings its own packages along
        return
    if hidden := hidden_packages():
        *others, last = (f"{place} hides distill's package `{name}`" for name, place in hidden.items())
        warnings.warn(
            f"{', '.join(others)}{' and ' if others else ''}{last}, because `import` looks there first; rename it, or "
            "start Python in another folder (the `distill` command is not affected)",
            stacklevel=3,
        )


def claim_packages() -> None:
    """Makes `import` find this project's packages in this process, whatever hides them.

    Packages that were imported from elsewhere before are left alone.
    """
    for name in hidden_packages().keys() - sys.modules.keys():
        spec = spec_from_file_location(name, _ROOT / name / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
