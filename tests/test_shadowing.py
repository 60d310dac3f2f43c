"""Folders of a user's project that are named like our packages do not get in the way, or are named in one line."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from distill.shadowing import PACKAGES, conflict, hidden_packages, replaced_packages, require_packages

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
    # Worker processes that start afresh take over the arguments, import the command's module, then what they were sent.
    program = (
        "import sys; sys.argv = ['bin/distill', 'fit']; "
        "import distill.cli, heads, students, teachers; print(heads.__all__[0], students.__file__)"
    )
    done = python(project, "-c", program)
    assert done.stdout.split() == ["CascadeMaskRCNN", str(ROOT / "students" / "__init__.py")]


def test_a_script_is_told_which_folder_hides_which_package(project: Path) -> None:
    (project / "script.py").write_text("import distill\n", encoding="utf-8")
    done = python(project, "script.py")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ImportError: ")
    for name in PACKAGES:
        assert f"{project / name} hides distill's package `{name}`" in line
    assert "rename it, or start Python in another folder" in line


def test_files_that_another_distribution_overwrote_are_named(tmp_path: Path) -> None:
    """As pip does where two distributions hold a package of one name; the command does not run foreign code either."""
    for name in ("distill", *PACKAGES):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for distribution, names in (("distill-rs", PACKAGES), ("torso", ("heads",))):
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8"
        )
        sizes = [f"{name}/__init__.py,,{(ROOT / name / '__init__.py').stat().st_size}\n" for name in names]
        (folder / "RECORD").write_text("".join([*sizes, "RECORD,,\n"]), encoding="utf-8")
    assert replaced_packages(tmp_path) == []
    (tmp_path / "heads" / "__init__.py").write_text("raise SystemExit('foreign code')\n", encoding="utf-8")
    (tmp_path / "recipes" / "__init__.py").unlink()
    assert replaced_packages(tmp_path) == ["heads", "recipes"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    for words, code in ((("-m", "distill", "recipes"), 2), (("-c", "import distill"), 1)):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code
        line = done.stderr.splitlines()[-1]
        assert line.startswith("distill: error: " if code == 2 else "ImportError: ")
        assert (
            f"{tmp_path / 'heads' / '__init__.py'} and {tmp_path / 'recipes' / '__init__.py'} are not distill's" in line
        )
        assert (
            "installed by torso; pip uninstall torso, then pip install --force-reinstall --no-deps distill-rs" in line
        )


def test_a_module_hides_too_and_a_mere_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "students").mkdir()  # a namespace package, which loses against a real one
    (tmp_path / "heads.py").write_text("", encoding="utf-8")
    for name in PACKAGES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert hidden_packages() == {"heads": tmp_path / "heads.py"}
    with pytest.raises(ImportError, match=r"heads\.py hides distill's package `heads`, because"):
        require_packages()
    (tmp_path / "heads.py").unlink()
    assert conflict() is None


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
