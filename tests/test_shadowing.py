"""Folders of a user's project that are named like our packages do not get in the way, or are named in one line."""

import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from distill.shadowing import PACKAGES, hidden_packages, warn_of_hidden_packages

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project that holds packages of all four names."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, with distill installed behind it on the path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_command_runs_in_a_folder_that_holds_all_four_names(project: Path) -> None:
    done = python(project, "-m", "distill", "recipes", "show", "rs4d_small")
    assert done.stdout == (ROOT / "recipes" / "rs4d_small.yaml").read_text(encoding="utf-8")
    assert done.stderr == ""
    # Worker processes that start afresh import the command's module and then what they were sent.
    program = "import distill.cli, heads, students, teachers; print(heads.__all__[0], students.__file__)"
    done = python(project, "-c", program)
    assert done.stdout.split() == ["CascadeMaskRCNN", str(ROOT / "students" / "__init__.py")]


def test_a_script_is_told_which_folder_hides_which_package(project: Path) -> None:
    (project / "script.py").write_text("import distill\nimport heads\nprint(heads.__file__)\n", encoding="utf-8")
    done = python(project, "script.py")
    assert done.stdout.strip() == str(project / "heads" / "__init__.py")  # the user's own is not taken away
    [line] = [line for line in done.stderr.splitlines() if "UserWarning" in line]
    assert line.startswith(f"{project}/script.py:1: ")
    for name in PACKAGES:
        assert f"{project / name} hides distill's package `{name}`" in line


def test_a_module_hides_too_and_a_mere_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "students").mkdir()  # a namespace package, which loses against a real one
    (tmp_path / "heads.py").write_text("", encoding="utf-8")
    for name in PACKAGES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert hidden_packages() == {"heads": tmp_path / "heads.py"}
    with pytest.warns(UserWarning, match=r"heads\.py hides distill's package `heads`, because"):
        warn_of_hidden_packages()
    (tmp_path / "heads.py").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_hidden_packages()


def test_an_editable_install_is_an_entry_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finder, setuptools' default for this layout, comes behind namespace packages on the path."""
    pytest.importorskip("setuptools.command.bdist_wheel", reason="needs setuptools 70.1 or later")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("distill", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_editable; build_editable('wheel')"
    (source / "wheel").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel] = (source / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [path] = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path).decode().strip() == str(source)
