"""What belongs into a wheel and into the source distribution, and nothing else: `python contents.py FILE [FILE ...]`.

Prints what is missing or too much and ends with 1 if there is something. Standard library only.
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("distill", "heads", "recipes", "students", "teachers")
INSTALLED = re.compile(
    r"""(distill|heads|recipes|students|teachers)/([^/]+/)*[^/]+\.py
    |   recipes/([^/]+/)*[^/]+\.yaml
    |   distill/(report/compare|serve)/page/[^/]+\.(html|css|js|svg)
    |   students/scan/cpu/kernels/[^/]+\.(h|cpp)""",
    re.VERBOSE,
)
METADATA = re.compile(
    r"distill_rs-[^/]+\.dist-info/(licenses/LICENSE|METADATA|WHEEL|RECORD|entry_points.txt|top_level.txt)"
)
SOURCES = re.compile(
    r"(CHANGELOG\.md|LICENSE|MANIFEST\.in|PKG-INFO|README\.md|pyproject\.toml|setup\.cfg|setup\.py)"
    r"|distill_rs\.egg-info/[^/]+\.txt|distill_rs\.egg-info/PKG-INFO"
)
MOST = 3_000_000  # bytes


def expected(root: Path = ROOT) -> set[str]:
    """The files of the packages."""
    files = (path.relative_to(root).as_posix() for name in PACKAGES for path in (root / name).rglob("*"))
    return {name for name in files if INSTALLED.fullmatch(name)}


def libraries(wheel: Path) -> set[str]:
    """The compiled kernels that a wheel for its platform should hold."""
    isas = ("generic", "avx2", "avx512") if wheel.stem.endswith("x86_64") else ("generic",)
    return {f"students/scan/cpu/libraries/{isa}.so" for isa in isas}


def findings(path: Path, compiled: bool = True) -> list[str]:
    """What is wrong with a wheel or a source distribution, one line each.

    Args:
        path: The file.
        compiled: Whether a wheel must hold compiled kernels.
    """
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            names = {name for name in archive.namelist() if not name.endswith("/")}
        wanted, others = expected() | (libraries(path) if compiled else set()), METADATA
    else:
        with tarfile.open(path) as archive:
            names = {member.name.partition("/")[2] for member in archive if member.isfile()}
        wanted, others = expected(), SOURCES
    lines = [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
    lines += [f"{path.name} holds {name}" for name in sorted(names - wanted) if not others.fullmatch(name)]
    lines += [f"{path.name} lacks the licence"] * (not any(name.endswith("LICENSE") for name in names))
    if (size := path.stat().st_size) > MOST:
        lines.append(f"{path.name} has {size} bytes, more than {MOST}")
    return lines


if __name__ == "__main__":
    wrong = [line for name in sys.argv[1:] for line in findings(Path(name))]
    print("\n".join(wrong) or "as it should be")
    sys.exit(bool(wrong))
