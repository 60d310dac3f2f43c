"""Files on all scenes together."""

from pathlib import Path

import pytest

from distill.scene.joined import file_names


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_names([]) == []
    assert file_names(["a/x.tif", "/b/y.tif"]) == ["x.tif", "y.tif"]
    monkeypatch.chdir(tmp_path)
    assert file_names(["a/x.tif", f"{tmp_path}/b/x.tif", "y.tif"]) == ["a/x.tif", "b/x.tif", "y.tif"]
