"""The structure of the code: which package may import which, where third-party libraries are used, how long files are.

Every import counts, those inside functions and under TYPE_CHECKING too.
"""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPONENTS = ("students", "teachers", "heads")
PACKAGES = ("distill", *COMPONENTS)

# Rooms of distill/, and what each may import beside itself. The modules of distill/ that lie in no package are leaves.
LEAVES = {"leaves"}
SCORING = LEAVES | {"data"}
TASKS = SCORING | {"targets", "evaluation", "training", "scene"}
RUNS = TASKS | {"tasks", "recipe"}
REPORT = RUNS | {"runs"}
LAUNCH = REPORT | {"report", "curate", "synthetic", "exporters", "exported"}
MAY_IMPORT = {
    "leaves": LEAVES,
    "recipe": LEAVES,
    "data": LEAVES,
    "targets": SCORING,
    "evaluation": SCORING,
    "training": SCORING,
    "tasks": TASKS,
    "runs": RUNS,
    "report": REPORT,
    "curate": SCORING,
    "synthetic": SCORING,
    "scene": SCORING | {"evaluation"},
    "exported": SCORING | {"scene", "evaluation"},
    "exporters": REPORT | {"exported"},
    "launch": LAUNCH,
    "serve": LAUNCH | {"launch"},
    "cli": LAUNCH | {"launch", "serve"},
}
# Of distill, components know the leaves; heads also know what MMDetection is fed with.
COMPONENTS_MAY_IMPORT = {"heads": ("distill.data.images",)}

# Third-party libraries that only one place knows, by the names that imports begin with; rasters are read and written.
HOMES: dict[str | tuple[str, ...], tuple[str, ...]] = {
    "heads/": ("mmdet", "mmcv", "mmengine", "segmentation_models_pytorch"),
    "distill/report/": ("wandb", "wandb_workspaces"),
    ("distill/data/", "distill/scene/"): ("rasterio",),
    "distill/data/masks.py": ("pycocotools.mask",),
    "distill/evaluation/": ("pycocotools.coco", "pycocotools.cocoeval"),
    "distill/scene/": ("shapely", "pyproj", "pyogrio"),
    "distill/serve/": ("fastapi", "uvicorn", "starlette"),
    "distill/launch/": ("ray",),
    ("distill/exported/", "distill/exporters/"): ("onnxruntime", "openvino"),
    "distill/exporters/": ("nncf",),
    ("distill/launch/hub.py", "teachers/hub.py"): ("huggingface_hub",),
    "distill/launch/sweep/": ("optuna",),
    "students/scan/": ("triton", "mamba_ssm", "causal_conv1d"),
}

LONGEST_FILE = 400  # lines
LONGEST_MEDIAN = 120  # lines, of the files of distill/
MOST_PROBES = 8  # lines of distill/ with getattr or hasattr


@cache
def modules() -> dict[str, Path]:
    """The modules of this project, by name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path) -> list[str]:
    """What a file imports: modules, and `module.name` where a name is imported from one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def module_of(imported: str) -> str:
    """The module of this project that an import reaches."""
    return imported if imported in modules() else imported.rpartition(".")[0]


def room(module: str) -> str:
    """The room of distill/ that a module lies in; "front door" for the package itself and for `python -m distill`."""
    parts = module.split(".")
    if parts[1:] in ([], ["__main__"]):
        return "front door"
    return parts[1] if parts[1] in MAY_IMPORT else "leaves"


def wrong_arrow(path: str, imported: str) -> str | None:
    """What is wrong with an import of the file at `path`, relative to the repository; None if nothing is."""
    package, top = path.split("/")[0], imported.split(".")[0]
    for home, guests in HOMES.items():
        if any(f"{imported}.".startswith(f"{guest}.") for guest in guests) and not path.startswith(home):
            return f"{path} imports {imported}: only {home} may"
    if top not in PACKAGES:
        return None
    if package == "distill":
        if top in COMPONENTS:
            return f"{path} imports {imported}: distill names components in recipes only"
        own, other = room(path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")), room(imported)
        if "front door" in (own, other) or other == own or other in MAY_IMPORT[own]:
            return None
        return f"{path} imports {imported}: {own} may import {', '.join(sorted(MAY_IMPORT[own]))}"
    if top == "distill":
        allowed = COMPONENTS_MAY_IMPORT.get(package, ())
        if room(imported) in ("leaves", "front door") or f"{imported}.".startswith(tuple(f"{a}." for a in allowed)):
            return None
        return (
            f"{path} imports {imported}: {package} may import the leaves of distill{''.join(f', {a}' for a in allowed)}"
        )
    return f"{path} imports {imported}: components never import each other" if top != package else None


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_goes_along_an_arrow(package: str) -> None:
    wrong = [
        message
        for path in modules().values()
        if path.is_relative_to(ROOT / package)
        for imported in imports(path)
        if (message := wrong_arrow(path.relative_to(ROOT).as_posix(), imported)) is not None
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "imported"),
    [
        ("students/a.py", "teachers.sam"),
        ("students/a.py", "distill.data.images.read_image"),
        ("heads/a.py", "distill.training.optim"),
        ("heads/a.py", "distill.data.coco.CocoInstances"),
        ("distill/a.py", "students"),
        ("distill/a.py", "distill.data.images"),
        ("distill/data/a.py", "distill.curate.prepare"),
        ("distill/tasks/a.py", "distill.curate.verify"),
        ("distill/tasks/a.py", "distill.recipe.find"),
        ("distill/curate/a.py", "distill.report.figures"),
        ("distill/runs/a.py", "distill.report.card"),
        ("distill/runs/a.py", "distill.cli.seeds"),
        ("distill/report/a.py", "distill.launch.run"),
        ("distill/cli/a.py", "wandb"),
        ("distill/tasks/a.py", "mmdet.registry"),
        ("distill/report/a.py", "pycocotools.mask"),
        ("students/rs4d.py", "triton"),
        ("students/timm_student.py", "segmentation_models_pytorch"),
    ],
)
def test_a_wrong_arrow_is_seen(path: str, imported: str) -> None:
    assert wrong_arrow(path, imported) is not None


def graph() -> dict[str, set[str]]:
    """The modules of this project that each imports."""
    arrows = {
        module: {module_of(imported) for imported in imports(path) if imported.split(".")[0] in PACKAGES}
        for module, path in modules().items()
    }
    return {module: (reached & modules().keys()) - {module} for module, reached in arrows.items()}


def test_no_modules_import_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def lines_of(package: str) -> dict[str, list[str]]:
    """The lines of each file of a package."""
    files = sorted((ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").splitlines() for path in files}


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_no_file_is_too_long(package: str) -> None:
    long = {name: len(lines) for name, lines in lines_of(package).items() if len(lines) > LONGEST_FILE}
    assert not long


def test_most_files_are_short() -> None:
    assert statistics.median(len(lines) for lines in lines_of("distill").values()) <= LONGEST_MEDIAN


def probes() -> Iterator[tuple[str, bool]]:
    """Lines of distill/ that ask an object for an attribute by name, and whether a comment says why."""
    for name, lines in lines_of("distill").items():
        for number, line in enumerate(lines):
            if re.search(r"getattr\(|hasattr\(", line):
                before = lines[number - 1].strip() if number else ""
                yield f"{name}:{number + 1}: {line.strip()}", "#" in line or before.startswith("#")


def test_few_attributes_are_asked_for_by_name_and_each_says_why() -> None:
    found = list(probes())
    assert len(found) <= MOST_PROBES, "\n".join(line for line, _ in found)
    assert not [line for line, explained in found if not explained]


def test_import_distill_is_cheap() -> None:
    code = (
        "import sys, distill, distill.cli; print([m for m in ('torch', 'timm', 'mmdet', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
