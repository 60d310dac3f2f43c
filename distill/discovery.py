"""Finds components by reading a package's files, and imports public names on first use.

Sources are read, not imported, so that `import students` needs no PyTorch.
"""

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from distill.errors import UserError

_COMPONENT_BASES: dict[str, tuple[str, ...]] = {}  # by package, as given to `lazy`


@cache
def classes_in(package: str, *bases: str) -> dict[str, str]:
    """Finds the component classes that the files of a package define.

    A component is a public class at the top level of a file without a leading underscore. Its bases lead, through
    classes of the same package, to one of `bases`. A class with `ABC` among its bases is abstract and no component.
    Folders inside the package are not searched.

    Args:
        package: For example "students".
        bases: Names of base classes, for example "StudentBase".

    Returns:
        Module by class name, for example {"RS4D": "students.rs4d"}, in alphabetical order.

    Raises:
        UserError: A file is not valid Python, or two files define components of one name.
    """
    parents: dict[str, list[str]] = {}
    candidates: list[tuple[str, Path]] = []
    for path in sorted(_init(package).parent.glob("*.py")):
        for node in _parse(path).body:
            if isinstance(node, ast.ClassDef):
                parents.setdefault(node.name, []).extend(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                if not path.name.startswith("_") and not node.name.startswith("_"):
                    candidates.append((node.name, path))

    def leads(name: str, seen: frozenset[str] = frozenset()) -> bool:
        above = set(parents.get(name, ())) - seen
        return not above.isdisjoint(bases) or any(leads(parent, seen | {name}) for parent in above)

    found: dict[str, str] = {}
    for name, path in sorted(candidates):
        if "ABC" in parents[name] or not leads(name):
            continue
        module = f"{package}.{path.stem}"
        if name in found:
            raise UserError(f"{found[name]} and {module} both define {name}; rename one of the classes")
        found[name] = module
    return found


def names_in(package: str) -> dict[str, str]:
    """Public names of a package, with the module that each is imported from; empty if it does not call `lazy`.

    They are the components found by `classes_in`, and what the package's `__init__.py` re-exports under
    `if TYPE_CHECKING:` as `from module import name as name`.

    Raises:
        UserError: As `classes_in`.
    """
    if package not in _COMPONENT_BASES:
        import_module(package)
    if (bases := _COMPONENT_BASES.get(package)) is None:
        return {}
    return _reexports(package) | (classes_in(package, *bases) if bases else {})


def lazy(package: str, *bases: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the names of `names_in` importable from a package, each imported on first use.

    In the package's `__init__.py`: `__getattr__, __dir__ = lazy(__name__, "StudentBase")`.

    Args:
        package: The package's `__name__`.
        bases: What its components derive from; none for a package without components.

    Returns:
        The module's `__getattr__`, which also answers `__all__`, and its `__dir__`.
    """
    _COMPONENT_BASES[package] = bases

    def offered_names() -> list[str]:
        return sorted(names_in(package))

    def import_name(name: str) -> Any:
        if name == "__all__":
            return offered_names()
        home = None if name.startswith("__") else names_in(package).get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return resolve_name(f"{home}:{name}")

    return import_name, offered_names


def public_path(cls: type) -> str:
    """How a recipe names a class: by its package alone where the package offers it ("students.RS4D"), else in full."""
    package = cls.__module__.partition(".")[0]
    offered = package in _COMPONENT_BASES and names_in(package).get(cls.__name__) == cls.__module__
    return f"{package if offered else cls.__module__}.{cls.__qualname__}"


@cache
def _reexports(package: str) -> dict[str, str]:
    """What an `__init__.py` imports `as` the same name under `if TYPE_CHECKING:`."""
    return {
        alias.name: node.module
        for block in _parse(_init(package)).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname == alias.name
    }


def _init(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No package named {package!r}", name=package)
    return Path(spec.origin)


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}, is not valid Python: {error.msg}; correct the file") from error
