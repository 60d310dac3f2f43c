"""The source distribution, and the built wheel in an environment that holds nothing of this project but the wheel."""

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
from tests.packaging import contents

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("wheel")  # built once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both, built from a copy of the sources and, for speed, without a compiler.

    The copy also holds what lies about in a checkout.
    """
    pytest.importorskip("setuptools.command.bdist_wheel", reason="needs setuptools 70.1 or later")
    source = tmp_path_factory.mktemp("source")
    for name in ("distill", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    for name in ("tests/test_any.py", "docs/picture.jpg", "runs/a/last.ckpt", "recipes/notes.jpg", "distill/left.so"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"")
    build = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('built'); build_wheel('built')"
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=source,
        env=os.environ | {"CXX": "false"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return source / "built"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile")
    install = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    # A search path that leads to the checkout would have pip find there, beside the sources, what it should install.
    subprocess.run(install, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, check=True)
    # A path in a .pth file is searched after the environment's own packages, and its own .pth files are not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def output(*words: str | Path, cwd: Path) -> str:
    """What a command prints, run in `cwd` without a search path of this process."""
    done = subprocess.run(words, cwd=cwd, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_hold_the_packages_and_nothing_else(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    assert [line for file in files for line in contents.findings(file, compiled=False)] == []
    assert f"distill_rs-{distill.__version__}-py3-none-" in files[0].name
    assert {f"recipes/{name}.yaml" for name in shipped()} <= contents.expected()
    assert {path.relative_to(ROOT).as_posix() for path in SOURCES.iterdir()} <= contents.expected()


def test_what_is_missing_or_too_much_is_found(wheel: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "distill_rs-1-py3-none-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(wrong, "w") as copy:
        for name in archive.namelist():
            if name != "recipes/rs4d_small.yaml":
                copy.writestr(name, archive.read(name))
        copy.writestr("tests/test_any.py", "")
    lines = contents.findings(wrong)
    assert {f"{wrong.name} lacks recipes/rs4d_small.yaml", f"{wrong.name} holds tests/test_any.py"} <= set(lines)
    assert {line.rpartition("/")[2] for line in lines if "libraries" in line} == {"avx2.so", "avx512.so", "generic.so"}


def test_the_commands_work(installed: Path, tmp_path: Path) -> None:
    assert output(installed / "distill", "--version", cwd=tmp_path).strip() == distill.__version__
    recipes = output(installed / "distill", "recipes", "list", cwd=tmp_path)
    assert all(name in recipes for name in shipped())


def test_the_packages_are_those_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json, distill, students, teachers, heads, recipes\n"
        "print(json.dumps([p.__file__ for p in (distill, students, teachers, heads, recipes)]))"
    )
    files = json.loads(output(installed / "python", "-c", code, cwd=tmp_path))
    assert all(Path(file).is_relative_to(installed.parent) for file in files)
