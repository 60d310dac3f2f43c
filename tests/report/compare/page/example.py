"""Example content of compare.json: two sections, of three seeds and of one."""

import math
import random
from pathlib import Path

from PIL import ImageDraw

from tests.report.compare.page.example_pictures import features, predictions, scene
from tests.report.compare.page.example_values import (
    PERCENT,
    SEEDS,
    columns,
    costs,
    curve,
    gain,
    model_row,
    pair,
    quality,
    rounded,
    value,
)


def instances(pictures: list[dict]) -> dict:
    draw = random.Random(0)
    flag = "timed on another CPU (AMD EPYC 7543, 8 threads) than the others; distill compare --measure times all anew"

    def scores(ap: float) -> dict:
        each = [ap + draw.gauss(0, 0.006) for _ in SEEDS]
        return {
            "mask/AP": value(each),
            "box/AP": value([x + 0.031 for x in each]),
            "boundary/AP": value([x * 0.7 for x in each]),
            "mask/AP50": value([x + 0.27 for x in each]),
        }

    nothing = {"missing": "no scratch baseline: fit the same recipe without initial weights"}
    rs4d, mamba = "RS4D tiny", "VMamba tiny"
    rows = [
        model_row(0, rs4d, "scratch", scores(0.398) | costs(5.2e6, 3.1e9, 21.4, 88, 1.31) | {"gain": nothing}),
        model_row(1, rs4d, "distilled", scores(0.463) | costs(5.2e6, 3.1e9, 21.4, 88, 1.29)),
        model_row(2, mamba, "scratch", scores(0.431) | costs(22.1e6, 11.2e9, 71.8, 240, 3.4, flag) | {"gain": nothing}),
        model_row(3, mamba, "distilled", scores(0.488) | costs(22.1e6, 11.2e9, 71.8, 240, 3.5, flag)),
        model_row(4, "ConvNeXt femto", "pretrained", scores(0.442) | costs(4.9e6, 2.4e9, 26.0, 120, 0.9)),
        model_row(
            5,
            "SAM ViT-B",
            "pretrained",
            scores(0.521) | costs(89.7e6, 371e9, 2310.0, 1420, 4.2),
            role="teacher",
            name="SAM ViT-B",
            teacher=None,
        ),
    ]
    for distilled, scratch in ((1, 0), (3, 2)):
        first, second = rows[distilled]["values"], rows[scratch]["values"]
        first["gain"] = gain(first["mask/AP"], second["mask/AP"], f"r{scratch}")
    rows[4]["values"]["gain"] = nothing
    rows[5]["values"]["gain"] = {"missing": "a teacher is a reference"}
    rows[4]["values"]["memory_mb"] = {"missing": "made by an earlier version; distill compare --measure fills it in"}
    rows[2]["dominated_by"] = ["r1", "r4"]
    rows[0]["dominated_by"] = ["r1"]
    rows[1]["best"], rows[4]["best"] = ["cpu_ms", "gain"], ["params", "macs", "train_hours"]
    rows[3]["best"] = ["mask/AP", "box/AP"]
    rows[3]["notes"] = [
        {"level": "red", "text": "seed 2 was scored with weights of step 9000, the others of step 12000"}
    ]
    names = [
        ("ship", 302),
        ("storage tank", 655),
        ("baseball diamond", 390),
        ("tennis court", 524),
        ("basketball court", 159),
        ("ground track field", 163),
        ("harbour", 224),
        ("bridge", 124),
        ("vehicle", 477),
        ("airplane", 757),
    ]
    return {
        "id": "s0",
        "task": "instances",
        "data": "NWPU",
        "title": "Instance segmentation on NWPU",
        "subtitle": "130 test images · 512 px · at most 100 detections an image",
        "sentence": "Below 25 ms on the CPU, RS4D tiny · distilled is best with 46.2 % mask AP: +6.6 points over the "
        "same student from scratch (3 seeds), 89 % of the teacher's at 1/17 of its parameters.",
        "quality": "mask/AP",
        "columns": columns(
            [
                quality("mask/AP", "mask AP"),
                quality("box/AP", "box AP"),
                quality("boundary/AP", "boundary AP", shown=False),
                quality("mask/AP50", "mask AP50", shown=False),
            ],
            {
                "key": "gain",
                "name": "gain over scratch",
                "meaning": "mask AP less that of the scratch baseline, paired by seed",
                "better": "max",
                "group": "gain",
                "shown": True,
            }
            | PERCENT,
        ),
        "rows": rows,
        "notes": [
            {"level": "red", "text": "CPU latency was measured on 2 different machines; those values are marked."},
            {"level": "info", "text": "The student's costs are for one image of 512 px, without the head."},
        ],
        "pareto": {
            "cpu_ms": ["r1", "r3"],
            "params": ["r4", "r1", "r3"],
            "macs": ["r4", "r1", "r3"],
            "memory_mb": ["r1", "r3"],
        },
        "curves": [
            curve(
                "val/mask/AP",
                "validation mask AP",
                {f"r{i}": (0.02, end) for i, end in enumerate((0.39, 0.455, 0.42, 0.48, 0.43))},
            ),
            curve(
                "train/loss",
                "training loss",
                {f"r{i}": (2.4, end) for i, end in enumerate((0.6, 0.5, 0.55, 0.45, 0.52))},
                better="min",
                unit="",
                scale=1.0,
                digits=4,
            ),
        ],
        "classes": {
            "metric": "mask/AP",
            "name": "mask AP",
            **PERCENT,
            "pairs": [pair("r1", "r0", names, draw), pair("r3", "r2", names, draw)],
        },
        "pictures": pictures,
        "recipes": [
            {
                "key": "model.init_args.optim.lr",
                "values": {"r0": "0.001", "r1": "0.0003", "r2": "0.001", "r3": "0.0003", "r4": "0.0001"},
            },
            {
                "key": "model.init_args.student.init_args.checkpoint",
                "values": {"r1": "runs/rs4d/student.safetensors", "r3": "runs/vmamba/student.safetensors"},
            },
        ],
        "environments": [
            {
                "rows": ["r0", "r1", "r4", "r5"],
                "cpu": "Intel Xeon Gold 6338",
                "threads": 4,
                "gpus": ["NVIDIA A100-SXM4-80GB"],
                "python": "3.12.4",
                "platform": "Linux-6.8",
                "versions": {"torch": "2.9.1", "timm": "1.0.22", "pytorch-lightning": "2.6.1"},
            },
            {
                "rows": ["r2", "r3"],
                "cpu": "AMD EPYC 7543",
                "threads": 8,
                "gpus": [],
                "python": "3.12.4",
                "platform": "Linux-6.1",
                "versions": {"torch": "2.9.1", "timm": "1.0.22", "pytorch-lightning": "2.6.1"},
            },
        ],
    }


def distillation(pictures: list[dict]) -> dict:
    ratio = {"unit": "", "scale": 1.0, "digits": 4}
    rows = []
    for i, (student, l1, cost) in enumerate(
        (
            ("RS4D tiny", 0.61, (5.2e6, 3.1e9, 21.4, 88, 6.5)),
            ("VMamba tiny", 0.52, (22.1e6, 11.2e9, 71.8, 240, 14.2)),
            ("ConvNeXt femto", 0.66, (4.9e6, 2.4e9, 26.0, 120, 4.4)),
        )
    ):
        one = {
            "l1_ratio": value([l1]),
            "cosine": value([1.2 - l1]),
            **{key: {**v, "n": 1, "sd": None, "each": v["each"][:1]} for key, v in costs(*cost).items()},
        }
        rows.append(model_row(i, student, "distilled", one, head=None, seeds=[0], runs=[f"runs/sa1b/{i}"]))
    rows[1]["best"] = ["l1_ratio", "cosine"]
    rows[2]["dominated_by"] = []
    return {
        "id": "s1",
        "task": "distillation",
        "data": "SA-1B",
        "title": "Distillation on SA-1B",
        "subtitle": "2000 validation images",
        "sentence": "VMamba tiny comes closest to SAM ViT-B: 0.5200 of the error of the image-independent baseline.",
        "quality": "l1_ratio",
        "columns": columns(
            [quality("l1_ratio", "l1 ratio", "min", **ratio), quality("cosine", "cosine", **ratio)], None
        ),
        "rows": rows,
        "notes": [],
        "pareto": {"cpu_ms": ["r0", "r1"], "params": ["r2", "r0", "r1"]},
        "curves": [
            curve(
                "val/l1_ratio",
                "validation l1 ratio",
                {"r0": (1.1, 0.61), "r1": (1.1, 0.52), "r2": (1.1, 0.66)},
                "min",
                1.0,
                **ratio,
            )
        ],
        "classes": None,
        "pictures": pictures,
        "recipes": [],
        "environments": [],
    }


def content(place: Path) -> dict:
    """The content, with its pictures written below `place`."""
    return {
        "format": 1,
        "made": "2026-11-28 11:40 UTC",
        "version": "0.1.0",
        "command": "distill compare runs/nwpu/* runs/sa1b/* --out runs/compare",
        "measured": None,
        "passed_over": ["runs/nwpu/data"],
        "sections": [instances(predictions(place, 4)), distillation(features(place, 3))],
    }


def many(place: Path, runs: int) -> dict:
    """A section of so many models of one seed, each with eight pictures of its own and a long curve."""
    found = content(place)
    section = found["sections"][0]
    steps = list(range(200))
    rows = [model_row(i, f"Student {i}", "scratch", section["rows"][0]["values"], seeds=[0]) for i in range(runs)]
    lines = [
        {
            "row": row["id"],
            "n": 1,
            "step": steps,
            "hours": None,
            "mean": [rounded(math.sin(s + i) ** 2) for s in steps],
            "low": None,
            "high": None,
        }
        for i, row in enumerate(rows)
    ]
    pictures = []
    for image in range(8):
        picture, _ = scene(image, 256)
        shown = {}
        for i, row in enumerate(rows):
            ImageDraw.Draw(picture).rectangle((8 * i, 40, 8 * i + 30, 80), outline=(255, 90, 95))
            path = place / f"many_{image}_{i}.jpg"
            picture.save(path)
            shown[row["id"]] = {"parts": {"prediction": str(path)}, "captions": {}}
        picture.save(place / f"many_{image}.jpg")
        pictures.append({"name": f"{image}.jpg", "shared": {"input": str(place / f"many_{image}.jpg")}, "rows": shown})
    section |= {
        "rows": rows,
        "curves": [section["curves"][0] | {"lines": lines}],
        "classes": None,
        "pictures": pictures,
    }
    return found | {"sections": [section | {"recipes": [], "environments": [], "pareto": {}}]}
