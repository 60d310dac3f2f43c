"""`distill doctor`: versions, devices, active kernels, and how to fix each problem."""

import json
from importlib import import_module
from importlib.util import find_spec

from rich.table import Table

from distill.cli import HEADLESS_OPENCV
from distill.cli.console import table_console
from distill.cli.parser import VerbParser

# What each extra needs to be importable, and what it is for. Distributions that only an extra brings are not missed.
_EXTRAS = {
    "mmdet": (("mmdet", "mmengine", "mmcv"), "heads.MaskRCNN, CascadeMaskRCNN and RSPrompter"),
    "smp": (("segmentation_models_pytorch",), "heads.UPerNet and FPNDecoder"),
    "onnx": (("onnx", "onnxscript", "onnxruntime"), "`distill export --format onnx`, and running such files"),
    "openvino": (("openvino", "nncf"), "`distill export --format openvino`, and running such files"),
    "wandb": (("wandb", "wandb_workspaces"), "W&B; offline unless WANDB_API_KEY is set"),
    "tensorboard": (("tensorboard",), "`--run.loggers '[tensorboard]'`"),
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), "`--run.loggers '[mlflow]'`"),
    "search": (("optuna",), "`distill sweep --search`"),
    "serve": (("fastapi", "uvicorn"), "`distill serve`"),
    "ray": (("ray",), "`distill predict --ray`"),
}
_OF_EXTRAS = ("mmdet", "mmengine", "mmcv-lite")


def diagnose() -> list[tuple[str, str, str]]:
    """Rows of (subject, state, why or how to fix it); a state that starts with "problem" can be fixed."""
    import torch

    from distill.runs.metadata import environment

    rows: list[tuple[str, str, str]] = []
    facts = environment()
    rows.append(("python", facts["python"], facts["platform"]))
    rows.append(("cpu", facts["cpu"], f"{facts['threads']} threads"))
    if facts["gpus"]:
        rows += [("gpu", name, f"CUDA {torch.version.cuda}") for name in facts["gpus"]]
    else:
        rows.append(("gpu", "none", "everything runs on the CPU; with a GPU, install a CUDA build of torch"))
    for package, number in facts["versions"].items():
        if number != "not installed":
            rows.append((package, number, ""))
        elif package not in _OF_EXTRAS:
            rows.append((package, f"problem: {number}", f"pip install {package}"))
    rows += _opencv()
    rows += _kernels()
    return [*rows, *_extras()]


def _extras() -> list[tuple[str, str, str]]:
    """What is only needed for some verbs and options; nothing of it missing is a problem, unless a part is."""
    rows = []
    for extra, (packages, what) in _EXTRAS.items():
        absent = [package for package in packages if find_spec(package) is None]
        state = "installed" if not absent else "not installed" if len(absent) == len(packages) else "in part"
        lacks = f" (no {', '.join(absent)})" if state == "in part" else ""
        rows.append(
            (extra, f"{state}{lacks}", f"for {what}" + (f"; pip install 'distill-rs[{extra}]'" if absent else ""))
        )
    return rows


def _kernels() -> list[tuple[str, str, str]]:
    """Reports of components, which are imported by name, because `distill` does not depend on components."""
    import torch

    try:
        scans = import_module("students.scan").explain_backend("cuda" if torch.cuda.is_available() else "cpu")
        rows = [("selective scan", f"{s.name}: {'active' if s.active else 'not active'}", s.reason) for s in scans]
        if any(find_spec(package) is not None for package in _EXTRAS["mmdet"][0]):
            name, active, why = import_module("heads.mmdet.mmcv_ops").explain_mmcv_ops()[-1]
            rows.append(("mmcv", name if active else f"problem: no {name}", why))
    except ImportError as error:
        return [("components", "problem: cannot be imported", f"{error}; make install, or pip install distill-rs")]
    return rows


def _opencv() -> list[tuple[str, str, str]]:
    try:
        return [("opencv", import_module("cv2").__version__, "")]
    except ImportError as error:
        return [("opencv", "problem: cannot be imported", f"{error}; {HEADLESS_OPENCV}")]


def run(words: list[str]) -> None:
    """Runs `distill doctor [--json]`."""
    arguments = parser().parse_args(words[1:])
    rows = diagnose()
    if arguments.json:
        print(json.dumps([dict(zip(("subject", "state", "note"), row, strict=True)) for row in rows], indent=2))
        return
    table = Table("subject", "state", "why, or what to do", box=None, pad_edge=False)
    for subject, state, note in rows:
        style = "red" if state.startswith("problem") else ""
        table.add_row(subject, state, note, style=style)
    table_console().print(table)


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill doctor", description=__doc__)
    whole.add_argument("--json", action="store_true", help="print JSON, to attach to a bug report")
    return whole
