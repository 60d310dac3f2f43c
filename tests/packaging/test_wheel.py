"""The built wheel, installed into an environment that holds nothing of this project but the wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import distill
from distill.recipe.find import shipped
from distill.shadowing import PACKAGES
from students.scan.cpu.build import SOURCES

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("wheel")  # built once


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is written beside them, and without a compiler, for speed."""
    pytest.importorskip("setuptools.command.bdist_wheel", reason="needs setuptools 70.1 or later")
    source = tmp_path_factory.mktemp("source")
    for name in ("distill", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('built')"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=source,
        env=os.environ | {"CXX": "false"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (built,) = (source / "built").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # A path in a .pth file is searched after the environment's own packages, and its own .pth files are not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def output(*words: str | Path, cwd: Path) -> str:
    """What a command prints, run in `cwd` without a search path of this process."""
    done = subprocess.run(words, cwd=cwd, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_recipes_and_the_sources_of_kernels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"recipes/{name}.yaml" for name in shipped()} <= names
    assert {path.relative_to(ROOT).as_posix() for path in SOURCES.iterdir()} <= names
    page = (ROOT / "distill/report/compare/page").glob("*.*")
    assert {path.relative_to(ROOT).as_posix() for path in page} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_commands_work(installed: Path, tmp_path: Path) -> None:
    assert output(installed / "distill", "--version", cwd=tmp_path).strip() == distill.__version__
    recipes = output(installed / "distill", "recipes", cwd=tmp_path)
    assert all(name in recipes for name in shipped())


def test_the_packages_are_those_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json, distill, students, teachers, heads, recipes\n"
        "print(json.dumps([p.__file__ for p in (distill, students, teachers, heads, recipes)]))"
    )
    files = json.loads(output(installed / "python", "-c", code, cwd=tmp_path))
    assert all(Path(file).is_relative_to(installed.parent) for file in files)
