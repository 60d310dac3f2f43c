"""Conflicts over this project's packages, whose names are short: `heads`, `recipes`, `students`, `teachers`.

Python looks for a package in the folder of the script, in that of a notebook, or with `python -m` in the current one,
before it looks at what is installed; and of two distributions with a package of one name, the one that is installed
last overwrites the files of the other.
"""

import sys
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


def replaced_packages(root: Path = _ROOT) -> list[str]:
    """Packages beside `distill` that are not those that were installed, because something overwrote or deleted them.

    Args:
        root: The folder that holds `distill`. A checkout, which has no list of installed files, is not looked through.
    """
    records = list(root.glob("distill_rs-*.dist-info/RECORD"))
    if len(records) != 1:
        return []
    rows = (line.rsplit(",", 2) for line in records[0].read_text(encoding="utf-8").splitlines())
    sizes = {name: int(size) for name, _, size in rows if size}
    openings = {name: f"{name}/__init__.py" for name in PACKAGES}
    return [name for name, file in openings.items() if file in sizes and _size(root / file) != sizes[file]]


def conflict() -> str | None:
    """One line about packages that cannot be imported, with the file in the way and the way out; None if all can."""
    if replaced := replaced_packages():
        return _explain_replaced(replaced)
    if not (hidden := hidden_packages()):
        return None
    *others, last = (f"{place} hides distill's package `{name}`" for name, place in hidden.items())
    return (
        f"{', '.join(others)}{' and ' if others else ''}{last}, because `import` looks there first; rename it, or "
        "start Python in another folder (the `distill` command is not affected)"
    )


def require_packages() -> None:
    """Checks that `import` finds this project's packages; the command, which finds them itself, is left to do so.

    Raises:
        ImportError: It does not find them; the message is that of `conflict`.
    """
    if not _is_command() and (line := conflict()):
        raise ImportError(line)


def claim_packages() -> None:
    """Makes `import` find this project's packages in this process, whatever hides them.

    Packages that were imported from elsewhere before are left alone, and so is everything if files were replaced.
    """
    if replaced_packages():
        return
    for name in hidden_packages().keys() - sys.modules.keys():
        spec = spec_from_file_location(name, _ROOT / name / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)


def _is_command() -> bool:
    """Whether this process is the `distill` command, or `python -m distill`, or a worker of either."""
    program = Path(next(iter(sys.argv), ""))
    # Python has not found out yet what to run while it imports the package of `python -m distill`.
    return program in (Path("-m"), _ROOT / "distill" / "__main__.py") or program.stem == "distill"


def _explain_replaced(names: list[str]) -> str:
    from importlib.metadata import packages_distributions  # here, because it is slow

    owners = packages_distributions()
    others = sorted({owner for name in names for owner in owners.get(name, ())} - {"distill-rs"})
    files = " and ".join(str(_ROOT / name / "__init__.py") for name in names)
    remove = f"pip uninstall {' '.join(others)}, then " if others else ""
    owner = f", but installed by {' and '.join(others)}" if others else ""
    return (
        f"{files} {'is' if len(names) == 1 else 'are'} not distill's{owner}; {remove}"
        "pip install --force-reinstall --no-deps distill-rs (an environment of its own keeps both)"
    )


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None
