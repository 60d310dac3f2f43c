from pathlib import Path

import pytest

from distill.errors import UserError
from distill.targets.cache.folder import VALIDATION, CacheFolder, entry_bytes, shard_entries, view_name
from tests.targets.cache.caching import POOL, SHARDS, TRAIN, info, write, write_images


@pytest.mark.parametrize("entries", [1, 2, 3, 10, 64])
def test_an_address_is_in_the_shard_that_holds_the_position(entries: int) -> None:
    header = info(shard_entries=entries)
    shards = list(header.shards())
    for view, count in [*((view_name(view), TRAIN) for view in range(POOL)), (VALIDATION, 3)]:
        held = [(shard, k) for shard in shards if shard.view == view for k in range(shard.count)]
        assert len(held) == count
        for position in range(count):
            assert header.shard_of(view, position) == held[position]
            assert held[position][0].first + held[position][1] == position


def test_shards_hold_whole_batches() -> None:
    assert shard_entries(1000, 4, 10_000) == 8
    assert shard_entries(1000, 16, 10_000) == 16  # never less than a batch


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_a_folder_takes_what_it_announces(tmp_path: Path, dtype: str) -> None:
    """But for headers of the files, which are long against these entries."""
    header = write(write_images(tmp_path / "images"), tmp_path / "cache", info(dtype))
    folder = CacheFolder(tmp_path / "cache")
    assert folder.read() == header
    assert header.complete
    assert not folder.missing(header)
    size = 2 * 3 * 16 * {"float32": 4, "int8": 1}.get(dtype, 2) + (24 if dtype == "int8" else 0) + 16
    assert header.entry_bytes == size == entry_bytes({"a": (3, 4, 4), "b": (3, 4, 4)}, dtype)
    paths = [folder.path(shard) for shard in header.shards()]
    assert len(paths) == SHARDS
    payload = sum(path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little") for path in paths)
    assert payload == header.total_bytes


def test_what_is_no_cache_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.cache\.root: .*holds no cache; make it with `distill cache RECIPE"):
        CacheFolder(tmp_path).read()
    (tmp_path / "cache.json").write_text('{"key": {"format": 99}}')
    with pytest.raises(UserError, match="of another version of distill"):
        CacheFolder(tmp_path).read()
