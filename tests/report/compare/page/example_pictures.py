"""Pictures of the example: scenes with predictions, and tiny feature maps."""

import random
from pathlib import Path

from PIL import Image, ImageDraw


def scene(seed: int, side: int = 160) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    draw = random.Random(seed)
    picture = Image.effect_noise((side, side), 22).convert("RGB")
    picture = Image.blend(picture, Image.linear_gradient("L").resize((side, side)).convert("RGB"), 0.3)
    picture = Image.blend(picture, Image.new("RGB", (side, side), (84, 98, 60)), 0.5)
    pen = ImageDraw.Draw(picture)
    boxes = []
    for _ in range(7):
        x, y = draw.randrange(10, side - 50), draw.randrange(10, side - 40)
        boxes.append((x, y, x + draw.randrange(16, 42), y + draw.randrange(10, 26)))
        pen.rectangle(boxes[-1], fill=(190, 190, 180))
    return picture, boxes


def predictions(place: Path, images: int) -> list[dict]:
    found = []
    for index in range(images):
        picture, boxes = scene(index)
        paths = {}

        def save(name: str, shown: Image.Image, index: int = index) -> str:
            path = place / f"{index}_{name}.png"
            shown.save(path)
            return str(path)

        def outlined(hits: int, colour: tuple, picture: Image.Image = picture, boxes: list = boxes) -> Image.Image:
            shown = picture.copy()
            for box in boxes[:hits]:
                ImageDraw.Draw(shown).rectangle(box, outline=colour, width=2)
            return shown

        for i in range(5):
            path = save(f"r{i}", outlined(3 + i % 5, (255, 90, 95)))
            paths[f"r{i}"] = {
                "parts": {"prediction": path},
                "captions": {"prediction": f"{3 + i % 5} of 7 objects found"},
            }
        shared = {"input": save("input", picture), "truth": save("truth", outlined(7, (46, 196, 182)))}
        found.append({"name": f"images/{index:03}.jpg", "shared": shared, "rows": paths})
    return found


def features(place: Path, images: int) -> list[dict]:
    found = []
    for index in range(images):
        scene(index)[0].save(place / f"f{index}_input.png")

        def save(name: str, seed: int, index: int = index) -> str:
            draw = random.Random(seed)
            tiny = Image.new("RGB", (16, 16))
            tiny.putdata([tuple(draw.randrange(60, 220) for _ in range(3)) for _ in range(256)])
            path = place / f"f{index}_{name}.png"
            tiny.save(path)
            return str(path)

        rows = {
            f"r{i}": {
                "parts": {"student": save(f"r{i}_student", 10 * index + i), "error": save(f"r{i}_error", 7 + i)},
                "captions": {"error": f"l1 {0.1 + i / 100:.3f}"},
            }
            for i in range(3)
        }
        found.append(
            {
                "name": f"sa_{index}.jpg",
                "shared": {"input": str(place / f"f{index}_input.png"), "teacher": save("teacher", index)},
                "rows": rows,
            }
        )
    return found
