"""The parts of `make docs` that are this project's: generated pages, links to files, the check of links."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from distill.evaluation.metrics import COSTS, METRICS
from distill.recipe.find import shipped
from distill.recipe.signatures import parameters
from tests.docs.blocks import ROOT

MODULES = ("links", "repository", "reference", "reference.api", "reference.keys", "reference.recipes")


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of docs/generate, as MkDocs imports them."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "generate"))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in [name for name in sys.modules if name.partition(".")[0] in ("links", "repository", "reference")]:
        del sys.modules[name]


def test_every_recipe_has_a_page_with_all_its_keys(generate: dict[str, ModuleType]) -> None:
    pages = generate["reference.recipes"].pages()
    assert len(pages) == len(shipped()) + 1
    page = pages["reference/recipes/rs4d_small.md"]
    assert "| `model.teacher` | **`teachers.SAM`** |" in page
    assert "| `model.optim.lr` | **`0.0004`** |" in page
    assert all(f"| `data.{key}` |" in page for key in parameters("distill.data.ImageFolder") or {})
    assert "| `data.image_size` | **`256`** |" in pages["reference/recipes/size-cpu_rs4d.md"]


def test_every_key_of_a_class_is_listed(generate: dict[str, ModuleType]) -> None:
    pages = generate["reference.keys"].pages()
    students = pages["reference/keys/students.md"]
    assert all(f"| `{key}` |" in students for key in parameters("students.RS4D") or {})
    assert "## students.EfficientViTSAM" in students
    assert "| `corruption.noise` | number | `0.0` |" in pages["reference/keys/tasks.md"]


def test_every_metric_and_cost_is_listed(generate: dict[str, ModuleType]) -> None:
    page = generate["reference"].metrics.pages()["reference/metrics.md"]
    assert all(f"| `{name}` |" in page for name in (*METRICS, *COSTS))


def test_a_key_or_a_name_without_a_description_stops_the_build(
    generate: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, api = generate["reference.keys"], generate["reference.api"]
    undocumented = generate["reference"].Undocumented
    bare = keys.Row("key", "text", "null", False, "")
    monkeypatch.setattr(keys, "component_rows", lambda *_: [bare])
    with pytest.raises(undocumented, match=r"distill\.DistillationModule: key"):
        keys.pages()
    monkeypatch.setattr(api.ast, "get_docstring", lambda node: None if node.name == "predict" else "Text.")
    with pytest.raises(undocumented, match="predict"):
        api.pages()


def test_links_to_files_of_the_repository_become_pages(generate: dict[str, ModuleType]) -> None:
    repository = generate["repository"]
    text = "[a](../students/rs4d.py) [b](../CONTRIBUTING.md) [c](heads.md#necks) [d](https://x.org)"
    assert repository.relinked(text, "students.md") == (
        "[a](files/students/rs4d.py.md) [b](contributing.md) [c](heads.md#necks) [d](https://x.org)"
    )
    assert repository.relinked("[a](docs/design.md#words)", "contributing.md") == "[a](design.md#words)"
    assert repository.relinked("[a](../../setup.py)", "appendix/a.md") == "[a](../files/setup.py.md)"
    (page,) = repository.file_pages({"students.md": text}).items()
    assert page[0] == "files/students/rs4d.py.md"
    assert "class RS4D(" in page[1]


def test_broken_links_and_what_comes_from_a_network_are_found(generate: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="https://x.org">4</a><img src="gone.png"><script src="https://x.org/y.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="here"></p><a href="#here">1</a><a href="a.html">2</a>')
    assert generate["links"].problems(tmp_path) == [
        "a.html: b.html#gone: there is no such anchor",
        "a.html: c.html: there is no such file",
        "a.html: gone.png: there is no such file",
        "a.html: https://x.org/y.js: loaded from a network",
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="`make docs` installs MkDocs")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "recipes" / "rs4d_small.html").is_file()
