"""Pages of the Python API: public names of each package, whose docstrings mkdocstrings reads from the sources."""

import ast
from importlib.util import find_spec
from pathlib import Path

from distill.discovery import names_in
from reference.undocumented import Undocumented

# Modules whose public names are named in full, by package.
_MODULES = {
    "contracts": (
        "distill.contracts",
        ("Component", "StudentBase", "TeacherBase", "HeadBase", "DecoderBase", "Target", "Prediction"),
    ),
    "errors": ("distill.errors", ("UserError", "Stopped")),
}
_PAGES = {  # title, what it holds, and an import to begin with
    "distill": ("distill", "Functions that the command line calls, tasks, probes and callbacks.", "import distill"),
    "students": ("Students", "Backbones to distil into. In a recipe: `students.RS4D`.", "from students import RS4D"),
    "teachers": ("Teachers", "Frozen models. In a recipe: `teachers.SAM`.", "from teachers import SAM"),
    "heads": ("Heads and decoders", "In a recipe: `heads.MaskRCNN`.", "from heads import MaskRCNN"),
    "distill.data": (
        "Data modules",
        "Images in, batches out. In a recipe: `distill.data.CocoInstances`.",
        "from distill.data import CocoInstances",
    ),
    "contracts": (
        "Contracts",
        "What a component of your own derives from, and what heads and data exchange.",
        "from distill.contracts import StudentBase",
    ),
    "errors": ("Errors", "What the functions raise on bad input.", "from distill.errors import UserError"),
}


def pages() -> dict[str, str]:
    """The pages, by their place in the site.

    Raises:
        Undocumented: A public class, function or method has no docstring.
    """
    missing = [name for package in _PAGES for name, home in _names(package).items() if not _described(home, name)]
    if missing:
        raise Undocumented(missing)
    return {f"reference/api/{package.rpartition('.')[2]}.md": _page(package) for package in _PAGES}


def _names(package: str) -> dict[str, str]:
    """Public names and the modules that define them."""
    if package in _MODULES:
        module, names = _MODULES[package]
        return dict.fromkeys(names, module)
    return dict(sorted(names_in(package).items(), key=lambda item: (item[0][0].isupper(), item[0])))


def _page(package: str) -> str:
    title, text, example = _PAGES[package]
    lines = [f"# {title}", "", text, "", f"```python\n{example}\n```", ""]
    lines += [f"::: {home}.{name}" for name, home in _names(package).items()]
    return "\n".join(lines) + "\n"


def _described(module: str, name: str) -> bool:
    """Whether a class with its public methods, or a function, has docstrings."""
    spec = find_spec(module)
    assert spec is not None
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef)
    node = next(node for node in tree.body if isinstance(node, kinds) and node.name == name)
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
    return all(ast.get_docstring(one) for one in (node, *(methods if isinstance(node, ast.ClassDef) else ())))
