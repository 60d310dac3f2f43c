"""Which files are predicted, and how their outputs are called."""

from pathlib import Path

import pytest

from distill.errors import UserError
from distill.launch.predict_sources import find_sources, output_names


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only names matter here."""
    for name in ("a/x.tif", "a/y.PNG", "a/notes.txt", "a/.hidden.tif", "b/x.tif", "b/out/x.tif", "b/out/x_overlay.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, out: str = "elsewhere") -> dict[str, str]:
    return {source.path.as_posix(): source.name for source in find_sources(given, Path(out))}


def test_files_folders_and_patterns(tree: Path) -> None:
    assert names("a/x.tif") == {"a/x.tif": "x"}
    assert names("a") == {"a/x.tif": "x", "a/y.PNG": "y"}
    assert names("a", "./a/x.tif", "a/*.tif") == {"a/x.tif": "x", "a/y.PNG": "y"}
    assert names("a/*.tif", "b/x.tif") == {"a/x.tif": "a_x", "b/x.tif": "b_x"}
    assert names(f"{tree}/*/x.tif") == {f"{tree}/a/x.tif": "a_x", f"{tree}/b/x.tif": "b_x"}
    assert names("a/notes.txt") == {"a/notes.txt": "notes"}  # who names a file means it
    assert find_sources(Path("a/x.tif"), Path("out")) == find_sources(["a/x.tif"], Path("out"))


def test_an_output_folder_inside_the_sources_is_none_of_them(tree: Path) -> None:
    assert names("b", out="b/out") == {"b/x.tif": "x"}
    assert names("b/**/*", out="b/out") == {"b/x.tif": "x"}
    unfinished = tree / "b" / "out" / ".predict" / "x.partial" / "outputs" / "x.tif"
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    assert names("b/**/*.tif", out="b/out") == {"b/x.tif": "x"}
    assert len(names("b")) == 3
    assert names("a", out=".") == {"a/x.tif": "x", "a/y.PNG": "y"}


@pytest.mark.parametrize(
    ("given", "out", "said"),
    [
        (["none.tif"], "out", "source 'none.tif' does not exist"),
        (["c*/*.tif"], "out", "no file matches source 'c\\*/\\*.tif'"),
        (["a/*.tif"], "a", "--out a is a folder of sources"),
        (["a"], "a", "--out a is a folder of sources"),
        ([], "out", "no source is given"),
    ],
)
def test_what_cannot_be_is_one_line(tree: Path, given: list[str], out: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_sources(given, Path(out))


def test_no_two_outputs_share_a_name() -> None:
    paths = [
        *("/d/a/x.tif", "/d/b/x.tif", "/d/b/x.png", "/d/b/X.jpg", "/d/a_x.tif", "/e/b/x.tif", "/d/y.tif"),
        *("/1/s/s.tif", "/2/s/s.tif"),
    ]
    found = output_names([Path(path) for path in sorted(paths)])
    assert len({name.casefold() for name in found.values()}) == len(paths)
    assert found[Path("/d/y.tif")] == "y"
    assert found[Path("/1/s/s.tif")] == "1_s_s"
    assert found == output_names([Path(path) for path in sorted(paths)])
