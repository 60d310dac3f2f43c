"""Preparing a data set: manifest, second runs, interruptions, and what is never overwritten."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from distill.curate.prepare import prepare
from distill.errors import UserError
from tests.data.published import hrsid_coco, save, scene, ssdd_voc

FORK = multiprocessing.get_context("fork")


def prepare_until_killed(source: Path, target: Path) -> None:
    """For a process of its own, which ends at the first copy."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[assignment]
    prepare("hrsid", source, target)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return hrsid_coco(tmp_path / "source")


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_manifest_has_the_sums_of_everything_read_and_written(source: Path, tmp_path: Path) -> None:
    done = prepare("hrsid", source, tmp_path / "out")
    manifest = json.loads((done.root / "manifest.json").read_text())
    assert manifest == done.manifest
    for part, folder in (("inputs", source), ("outputs", done.root)):
        for name, digest in manifest[part].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    written = {path.relative_to(done.root).as_posix() for path in done.root.rglob("*") if path.is_file()}
    assert written == {*manifest["outputs"], "manifest.json"}
    read = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert read == set(manifest["inputs"])
    assert manifest["splits"] == {"train": {"images": 2, "objects": 2}, "test": {"images": 1, "objects": 1}}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_images_are_copied_byte_for_byte(source: Path, tmp_path: Path) -> None:
    root = prepare("hrsid", source, tmp_path / "out").root
    for path in (source / "HRSID_JPG/JPEGImages").iterdir():
        assert (root / "images" / path.name).read_bytes() == path.read_bytes()


def test_a_second_run_changes_nothing(source: Path, tmp_path: Path) -> None:
    assert prepare("hrsid", source, tmp_path / "out").changed
    before = snapshot(tmp_path)
    again = prepare("hrsid", source, tmp_path / "out")
    assert not again.changed
    assert snapshot(tmp_path) == before


def test_two_runs_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, second = (snapshot(prepare("hrsid", source, tmp_path / name).root) for name in ("a", "b"))
    assert {name: content for name, (_, content) in first.items()} == {
        name: content for name, (_, content) in second.items()
    }


def test_changed_sources_and_damaged_targets_are_converted_again(source: Path, tmp_path: Path) -> None:
    root = prepare("hrsid", source, tmp_path / "out").root
    fresh = snapshot(root)
    (root / "images/P0003.jpg").write_bytes(b"damaged")
    assert prepare("hrsid", source, root).changed
    (root / "annotations/train.json").unlink()
    assert prepare("hrsid", source, root).changed
    assert {name: content for name, (_, content) in snapshot(root).items()} == {
        name: content for name, (_, content) in fresh.items()
    }
    save(scene(99), source / "HRSID_JPG/JPEGImages/P0003.jpg")
    assert prepare("hrsid", source, root).changed
    assert not prepare("hrsid", source, root).changed
    assert prepare("hrsid", source, root, on_error="skip").changed  # may leave out other things


def test_an_interrupted_run_leaves_the_old_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepare("hrsid", source, tmp_path / "out").root
    before = snapshot(root)
    save(scene(99), source / "HRSID_JPG/JPEGImages/P0003.jpg")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare("hrsid", source, root)
    with pytest.raises(KeyboardInterrupt):
        prepare("hrsid", source, tmp_path / "new")
    assert snapshot(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_files_of_others_are_never_lost(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds 'thesis\.txt', which was not written by"):
        prepare("hrsid", source, target)
    (target / "thesis.txt").unlink()
    prepare("hrsid", source, target)
    (target / "images/mine.jpg").write_text("mine")
    assert not prepare("hrsid", source, target).changed
    (target / "images/P0003.jpg").unlink()
    with pytest.raises(UserError, match=r"holds 'images/mine\.jpg'"):
        prepare("hrsid", source, target)
    assert (target / "images/mine.jpg").read_text() == "mine"


def test_a_linked_target_stays_a_link(source: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "disk/real", tmp_path / "out"
    real.mkdir(parents=True)
    link.symlink_to(real)
    assert prepare("hrsid", source, link).root == link
    save(scene(99), source / "HRSID_JPG/JPEGImages/P0003.jpg")
    assert prepare("hrsid", source, link).changed
    assert link.is_symlink()
    assert (real / "images/P0003.jpg").read_bytes() == (source / "HRSID_JPG/JPEGImages/P0003.jpg").read_bytes()
    assert [path.name for path in real.parent.iterdir()] == ["real"]
    (real / "images").rename(tmp_path / "disk/images")
    (real / "images").symlink_to(tmp_path / "disk/images")
    (real / "annotations/test.json").unlink()
    with pytest.raises(UserError, match="holds 'images', which was not written by"):
        prepare("hrsid", source, link)


def test_a_damaged_manifest_is_called_so(source: Path, tmp_path: Path) -> None:
    root = prepare("hrsid", source, tmp_path / "out").root
    for text in ("{broken", "[]", "{}"):
        (root / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"holds a manifest\.json that is damaged or of another program, .* delete"):
            prepare("hrsid", source, root)


def unwritable(kind: str, folder: Path) -> Path:
    """A target of one kind at which nothing can be written, whoever tries."""
    (folder / "file").write_text("")
    (folder / "link").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    return {"proc": Path("/proc/nowhere/out"), "name": folder / ("a" * 300)}.get(kind, folder / kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("file", "is a file; name a folder"),
        ("file/sub", "cannot be read or written"),
        ("file/sub/sub", "cannot be read or written"),
        ("link", "is a link to nothing"),
        ("loop", "is a link to nothing"),
        ("loop/sub", "cannot be read or written"),
        ("name", r"cannot be read or written \(File name too long\)"),
        ("proc", "cannot be read or written"),
    ],
)
def test_targets_that_cannot_be_written(source: Path, tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^--target '[^\n]*' {message}[^\n]*$"):
        prepare("hrsid", source, unwritable(kind, tmp_path))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EACCES])
def test_a_full_disk_is_one_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(
        UserError, match=rf"^--target '.*' cannot be read or written \({os.strerror(code)}\); make room"
    ):
        prepare("hrsid", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_source_that_cannot_be_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("distill.curate.prepare.sha256", fail)
    with pytest.raises(UserError, match=r"^--source '.*' holds '.*', which cannot be read \(Permission denied\); make"):
        prepare("hrsid", source, tmp_path / "out")


def test_what_a_killed_run_left_is_removed(source: Path, tmp_path: Path) -> None:
    process = FORK.Process(target=prepare_until_killed, args=(source, tmp_path / "out"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGTERM
    (remains,) = (path for path in tmp_path.iterdir() if path.name not in ("out", "source"))
    assert remains.name.startswith(".out.preparing-")
    assert not (tmp_path / "out").exists()
    (tmp_path / ".out.original").mkdir()  # somebody's own
    prepare("hrsid", source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.original", "out", "source"]
    (tmp_path / ".out.preparing-x").mkdir()
    assert not prepare("hrsid", source, tmp_path / "out").changed
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.original", "out", "source"]


@pytest.mark.parametrize("outside", ["{elsewhere}", "../../../elsewhere/zz.jpg"])
def test_paths_that_lead_out_of_the_source_are_missing_images(source: Path, tmp_path: Path, outside: str) -> None:
    save(scene(5), tmp_path / "elsewhere/zz.jpg")
    path = source / "HRSID_JPG/annotations/test2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = outside.format(elsewhere=tmp_path / "elsewhere/zz.jpg")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"^image '.*/JPEGImages/zz\.jpg' does not exist; correct the source"):
        prepare("hrsid", source, tmp_path / "out")
    done = prepare("hrsid", source, tmp_path / "out", on_error="skip")
    assert done.manifest["skipped"] == ["image 'HRSID_JPG/JPEGImages/zz.jpg' does not exist"]
    content["images"][0]["file_name"] = "/home/author/P0003.jpg"  # the name is there
    path.write_text(json.dumps(content))
    assert prepare("hrsid", source, tmp_path / "out").manifest["splits"]["test"]["images"] == 1


def test_another_data_set_is_not_replaced(source: Path, tmp_path: Path) -> None:
    prepare("hrsid", source, tmp_path / "out")
    with pytest.raises(UserError, match="holds the data set hrsid; name another target"):
        prepare("ssdd", ssdd_voc(tmp_path / "ssdd"), tmp_path / "out")


@pytest.mark.parametrize("inside", [".", "out", "HRSID_JPG/out"])
def test_source_and_target_apart(source: Path, inside: str) -> None:
    with pytest.raises(UserError, match="lie in one another; keep them apart"):
        prepare("hrsid", source, source / inside)
    with pytest.raises(UserError, match="keep them apart"):
        prepare("hrsid", source / "HRSID_JPG", source)


def test_broken_objects_and_images_stop_or_are_listed(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = source / "HRSID_JPG/annotations/train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [0, 0, -1, 5]
    path.write_text(json.dumps(content))
    (source / "HRSID_JPG/JPEGImages/P0003.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"width and height must be positive; correct the file, or .* --on-error skip$"):
        prepare("hrsid", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = prepare("hrsid", source, tmp_path / "out", on_error="skip")
    assert done.manifest["splits"] == {"train": {"images": 2, "objects": 1}, "test": {"images": 0, "objects": 0}}
    first, second = done.manifest["skipped"]
    assert first.startswith("annotation 1 in 'HRSID_JPG/annotations/train2017.json' has the box")
    assert second == "image 'HRSID_JPG/JPEGImages/P0003.jpg' is an empty file"
    assert done.manifest["skipped_by_kind"] == {"box": 1, "image": 1}
    assert str(tmp_path) not in json.dumps(done.manifest)
    # What was left out is for the caller to print, once; an empty part is said at once.
    assert caplog.messages == ["annotations/test.json is empty: every image of this part was left out"]
    content["annotations"] = content["annotations"][:1]
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"no objects of the classes ship \(1 are unusable; the first: annotation 1 has"
    ):
        prepare("hrsid", source, tmp_path / "out")


def test_nothing_usable(source: Path, tmp_path: Path) -> None:
    for path in (source / "HRSID_JPG/JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"none of the 3 images can be used; the first: image .* does not exist"):
        prepare("hrsid", source, tmp_path / "out", on_error="skip")


def test_unknown_policy(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown --on-error policy 'skpi': did you mean skip"):
        prepare("hrsid", source, tmp_path / "out", on_error="skpi")
