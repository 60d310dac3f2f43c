"""`.pt2` files, which need PyTorch and, where they hold operators of components, this project.

PyTorch is imported when a program is read; what a file tells of itself is read without it.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from distill.errors import UserError
from distill.exported.facts import EXTRA_FILE, ExportedFacts

OPERATORS_FILE = "operators.json"  # names of modules that register operators
_COMPONENTS = ("students", "teachers", "heads")


def read_pt2_facts(path: Path) -> ExportedFacts:
    """Reads the facts of a `.pt2`.

    Raises:
        UserError: It is damaged, or no file of `distill export`.
    """
    return ExportedFacts.from_json(_extra(path, EXTRA_FILE), path)


def read_pt2(path: Path) -> Callable[..., Any]:
    """The program of a `.pt2`: a function of the tensors that `ExportedFacts` describes, returning a tuple of tensors.

    Modules of this project that register its operators are imported first; a file can name no others. Call it in
    `torch.inference_mode`. PyTorch evaluates expressions that such a file holds, so open files that you trust only.

    Raises:
        UserError: PyTorch is absent, the file is damaged, or it needs operators that cannot be imported.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path} needs PyTorch: pip install torch, or export to ONNX") from error
    for module in _operator_modules(path):
        _import_operators(module, path)
    try:
        program: Any = torch.export.load(path).module()
    except Exception as error:  # the loader lets through whatever its parts raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read by PyTorch {torch.__version__} ({reason}); export it again with this version"
        ) from error
    from distill.linear import linear

    # As in the model that was exported, whose own call was written as PyTorch's.
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.linear.default:
            node.target = linear
    program.recompile()
    called: Callable[..., Any] = program
    return called


def _operator_modules(path: Path) -> list[str]:
    try:
        modules = json.loads(_extra(path, OPERATORS_FILE) or "[]")
    except ValueError:
        modules = None
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise UserError(f"the names of operators inside {path} are damaged; export it again")
    return modules


def _import_operators(module: str, path: Path) -> None:
    if module.split(".")[0] not in _COMPONENTS:
        raise UserError(
            f"{path} names {module!r} for its operators: only modules of {', '.join(_COMPONENTS)} are imported"
        )
    try:
        import_module(module)
    except ImportError as error:
        raise UserError(f"{path} needs {module}, which cannot be imported ({error}); export to ONNX instead") from error


def _extra(path: Path, name: str) -> str | None:
    """An extra file of the archive; None if it has none of this name."""
    try:
        with ZipFile(path) as archive:
            found = [entry for entry in archive.namelist() if entry.endswith(f"/extra/{name}")]
            return archive.read(found[0]).decode() if found else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except (BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no `.pt2` file or is damaged ({error}); export it again") from error
