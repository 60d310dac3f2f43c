"""The record of a scene: what is resumed, what is passed over, what is refused."""

import multiprocessing
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.locks import locked
from distill.scene.journal import Journal, first_difference

HEADER = {"checkpoint": "a1", "plan": {"tile": 64, "overlap": 8}, "score": 0.3}


def journal(out: Path, rows: int = 3, **changed: object) -> Journal:
    return Journal(out, "scene", HEADER | changed, rows)


def test_rows_are_missing_until_they_are_complete(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.begin([], overwrite=False)
    first.complete(1, {"tiles": 4})
    again = journal(tmp_path)
    again.begin([], overwrite=False)
    assert again.missing() == [0, 2]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"checkpoint": "b2"}, "with another checkpoint: a1, now b2"),
        ({"plan": {"tile": 64, "overlap": 9}}, "another plan.overlap: 8, now 9"),
        ({"score": 0.5}, "another score: 0.3, now 0.5"),
        ({"gsd": 0.3}, "another gsd: unset, now 0.3"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_header_is_refused_by_name(
    tmp_path: Path, changed: dict[str, object], said: str, finished: bool
) -> None:
    first, output = journal(tmp_path), tmp_path / "scene.gpkg"
    first.begin([output], overwrite=False)
    first.complete(0, {})
    other = journal(tmp_path, **changed)
    if finished:
        output.touch()
        first.finish({"tiles": 1})
        with pytest.raises(UserError) as error:
            other.result([output], overwrite=False)
        assert other.result([output], overwrite=True) is None
        assert output.exists()
    else:
        with pytest.raises(UserError) as error:
            other.begin([output], overwrite=False)
        assert first.missing() == [1, 2]
    assert said in str(error.value)
    assert "another --out, or --overwrite" in str(error.value)
    other.begin([output], overwrite=True)
    assert other.missing() == [0, 1, 2]


def test_a_finished_scene_is_recognised_while_its_outputs_are_there(tmp_path: Path) -> None:
    first, output = journal(tmp_path), tmp_path / "scene.gpkg"
    assert first.result([output], overwrite=False) is None
    first.begin([output], overwrite=False)
    output.touch()
    first.finish({"tiles": 9})
    for overwrite in (False, True):  # what is the same need not be replaced
        assert journal(tmp_path).result([output], overwrite) == {"tiles": 9}
    assert not first.folder.exists()
    output.unlink()
    assert journal(tmp_path).result([output], overwrite=False) is None


def test_rows_without_a_header_do_not_count(tmp_path: Path) -> None:
    """A process was killed while it removed them."""
    first = journal(tmp_path)
    first.begin([], overwrite=False)
    first.complete(1, {"tiles": 4})
    (first.folder / "header.json").unlink()
    other = journal(tmp_path, score=0.5)
    other.begin([], overwrite=True)
    assert other.missing() == [0, 1, 2]


def test_a_finished_scene_leaves_rows_of_other_settings_alone(tmp_path: Path) -> None:
    """Another process predicts the scene anew, to replace it."""
    first, other, output = journal(tmp_path), journal(tmp_path, score=0.5), tmp_path / "scene.gpkg"
    first.begin([output], overwrite=False)
    output.touch()
    first.finish({"tiles": 9})
    other.begin([output], overwrite=True)
    other.complete(0, {"tiles": 4})
    assert journal(tmp_path).result([output], overwrite=False) == {"tiles": 9}
    assert other.missing() == [1, 2]


def test_what_replaced_settings_alone_wrote_is_removed_at_the_end(tmp_path: Path) -> None:
    first, other = journal(tmp_path), journal(tmp_path, score=0.5)
    old, both = tmp_path / "scene.geojson", tmp_path / "scene.gpkg"
    old.touch()
    both.touch()
    first.finish({"outputs": (old.name, both.name)})
    other.begin([both], overwrite=True)
    assert old.exists()
    other.finish({"outputs": (both.name,)})
    assert [path.name for path in tmp_path.iterdir() if path.name != ".predict"] == [both.name]


def test_foreign_files_are_not_replaced_unasked(tmp_path: Path) -> None:
    output = tmp_path / "scene.gpkg"
    output.write_text("of the user")
    with pytest.raises(UserError, match=r"scene\.gpkg is there already"):
        journal(tmp_path).begin([output], overwrite=False)
    journal(tmp_path).begin([output], overwrite=True)
    assert output.read_text() == "of the user"


def test_differences_are_found_in_both_directions() -> None:
    assert first_difference({}, {}) is None
    assert first_difference({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"c": 2}}) == "b.c"
    assert first_difference({"old": 1}, {}) == "old"


def _hold(path: Path, ready: object, end: object) -> None:
    with locked(path, 2, 3) as got:
        assert got
        ready.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path, fork = tmp_path / "lock", multiprocessing.get_context("fork")
    ready, end = fork.Event(), fork.Event()
    holder = fork.Process(target=_hold, args=(path, ready, end))
    holder.start()
    assert ready.wait(60)
    for first, count, free in ((0, 2, True), (0, 3, False), (4, 9, False), (5, 1, True)):
        with locked(path, first, count) as got:
            assert got is free
    one = Journal(tmp_path, "scene", HEADER, 3)
    (tmp_path / ".predict").mkdir()
    (tmp_path / ".predict" / "scene.lock").symlink_to(path)
    with pytest.raises(UserError, match="another process predicts"), one.claimed(range(1, 3)):
        pass
    with one.claimed(range(2)):
        pass
    holder.kill()
    holder.join()
    with locked(path, 0, 9) as got:
        assert got
