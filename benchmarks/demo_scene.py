"""Writes a large GeoTIFF of the demo's test images, to predict with the demo's models.

python benchmarks/demo_scene.py scene.tif --side 20000
distill predict runs/demo/distilled scene.tif --out out --tile 512

The images are drawn four times as large as they are, so tiles of 512 px show the model what it was trained on.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from rasterio.windows import Window

ENLARGED = 4
UTM = "EPSG:32633"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--side", type=int, default=20_000, help="pixels")
    parser.add_argument("--images", type=Path, default=Path("runs/demo/data/test/images"))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = [
        np.moveaxis(np.asarray(image.convert("RGB").resize((image.width * ENLARGED, image.height * ENLARGED))), 2, 0)
        for image in map(Image.open, sorted(arguments.images.iterdir()))
    ]
    cell, side = pictures[0].shape[1], arguments.side
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 3,
        "dtype": "uint8",
        "crs": UTM,
        "transform": Affine(0.25, 0, 500_000, 0, -0.25, 5_000_000),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "jpeg",
        "photometric": "ycbcr",
    }
    with rasterio.open(arguments.scene, "w", **profile) as file:
        for top in range(0, side, cell):
            for left in range(0, side, cell):
                picture = pictures[rng.integers(len(pictures))]
                height, width = min(cell, side - top), min(cell, side - left)
                file.write(picture[:, :height, :width], window=Window(left, top, width, height))
    print(f"wrote {arguments.scene}: {side} x {side} px, {arguments.scene.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
