import base64
import io
import random
from pathlib import Path

from PIL import Image

from distill.report.compare.page.images import embed


def noisy(path: Path, side: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    Image.frombytes("RGB", (side, side), draw.randbytes(3 * side * side)).save(path)
    return str(path)


def opened(image: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))


def test_an_image_with_room_keeps_its_size(tmp_path: Path) -> None:
    found = embed([noisy(tmp_path / "a.png", 300)], 1_000_000)
    assert opened(found["images"][0]).size == (300, 300)


def test_pictures_shrink_until_they_fit(tmp_path: Path) -> None:
    paths = [noisy(tmp_path / f"{i}.png", 150, seed=i) for i in range(5)]
    found = embed(paths, 40_000)
    assert sum(len(image["src"]) for image in found["images"]) <= 40_000
    assert all(0 < image["width"] < 150 for image in found["images"])


def test_what_has_no_room_is_left_out_from_the_end(tmp_path: Path) -> None:
    paths = [noisy(tmp_path / f"{i}.png", 150, seed=i) for i in range(5)]
    shown = ["src" in image for image in embed(paths, 15_000)["images"]]
    assert shown == sorted(shown, reverse=True)
    assert True in shown
    assert False in shown


def test_equal_files_are_embedded_once(tmp_path: Path) -> None:
    found = embed(
        [noisy(tmp_path / "a.png", 80), noisy(tmp_path / "b.png", 80), noisy(tmp_path / "c.png", 80, 1)], 10**6
    )
    assert len(found["images"]) == 2
    assert list(found["places"].values()) == [0, 0, 1]


def test_a_feature_map_keeps_its_pixels(tmp_path: Path) -> None:
    path = noisy(tmp_path / "map.png", 16)
    image = embed([path], 10**6)["images"][0]
    assert image["pixelated"]
    assert opened(image).convert("RGB").tobytes() == Image.open(path).tobytes()


def test_files_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    gone, text, half = (str(tmp_path / name) for name in ("gone.png", "text.png", "half.png"))
    content = Path(noisy(tmp_path / "whole.png", 80)).read_bytes()
    Path(half).write_bytes(content[: len(content) // 2])
    found = embed([gone, text, gone, half], 10**6)
    said = [f"{gone} is missing", f"{text} is no picture", f"{half} cannot be read"]
    assert [image["missing"] for image in found["images"]] == said
