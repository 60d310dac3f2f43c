"""Real land cover, small enough to be scored and drawn quickly."""

from pathlib import Path

import pytest
from PIL import Image

from tests.data.published import SHARED

SIDE = 192


@pytest.fixture(scope="session")
def landcover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corners of four real images of each part, in the layout of `distill.data.DubaiLandCover`."""
    source = SHARED / "landcover"
    if not source.is_dir():
        pytest.skip("needs the land-cover images in ../shared/data/landcover")
    root = tmp_path_factory.mktemp("landcover")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for part in ("train.txt", "val.txt"):
        tiles = (source / part).read_text(encoding="utf-8").split()[:4]
        (root / part).write_text("\n".join(tiles), encoding="utf-8")
        for name in (name.format(tile) for tile in tiles for name in ("images/{}.jpg", "labels/{}.png")):
            Image.open(source / name).crop((0, 0, SIDE, SIDE)).save(root / name)
    return root
