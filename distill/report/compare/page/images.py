"""Pictures as a page embeds them: WebP in data URIs, as large as a number of bytes allows."""

import base64
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# Longest side in pixels and WebP quality, from the best to the least in which a picture can still be read.
_STEPS = ((512, 82), (384, 80), (320, 78), (256, 75), (224, 72), (192, 68), (160, 62), (128, 55), (96, 45))
_TINY = 64  # px: feature maps up to this side keep their exact pixels and are shown as squares
_SAMPLED = 12  # pictures from which the size of all is estimated


def embed(paths: Sequence[str], budget: int) -> dict:
    """Reads pictures and shrinks them until they fit.

    Args:
        paths: The most important first: what does not fit in the lowest quality is left out from the end.
        budget: Bytes that all data URIs may take.

    Returns:
        `places`, the position in `images` by path, and `images`: each different file once, with `src`, `width` and
        `height` in pixels and whether it is `pixelated`, or with `missing`, which says why it has no picture.
    """
    places: dict[str, int] = {}
    files: list[str] = []  # a path for each different file
    seen: dict[bytes, int] = {}
    for path in dict.fromkeys(paths):
        digest = _digest(path)
        if digest not in seen:
            seen[digest] = len(files)
            files.append(path)
        places[path] = seen[digest]
    return {"places": places, "images": _fitting(files, budget)}


def _digest(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return path.encode(errors="surrogateescape")  # each says its own name


def _fitting(files: Sequence[str], budget: int) -> list[dict]:
    sample = files[:: max(1, len(files) // _SAMPLED)]
    images: list[dict] = []
    with ThreadPoolExecutor() as pool:
        for side, quality in _STEPS:
            encode = partial(_encoded, side=side, quality=quality)
            estimate = sum(map(_size, pool.map(encode, sample))) * len(files) / max(1, len(sample))
            if estimate > budget and (side, quality) != _STEPS[-1]:
                continue
            images = list(pool.map(encode, files))
            if sum(map(_size, images)) <= budget:
                break
    for place, image in enumerate(images):
        budget -= _size(image)
        if budget < 0:
            images[place] = {"missing": "left out to keep this page small"}
    return images


def _size(image: dict) -> int:
    return len(image.get("src", ""))


def _encoded(path: str, side: int, quality: int) -> dict:
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (side, side))  # a JPEG is decoded no larger than needed
            picture = opened.convert("RGB")
    except UnidentifiedImageError:
        return {"missing": f"{path} is no picture"}
    except FileNotFoundError:
        return {"missing": f"{path} is missing"}
    except OSError:  # it may be cut off
        return {"missing": f"{path} cannot be read"}
    pixelated = max(picture.size) <= _TINY
    picture.thumbnail((side, side))
    content = io.BytesIO()
    picture.save(content, "WEBP", lossless=pixelated, quality=quality, method=2)
    uri = "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
    return {"src": uri, "width": picture.width, "height": picture.height, "pixelated": pixelated}
