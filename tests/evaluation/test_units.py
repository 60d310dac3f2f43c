import math

import pytest

from distill.evaluation.metrics import bare
from distill.evaluation.units import counted, duration, shown


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test/box/AP", 0.0912, "9.1 %"),
        ("val/mask/AP_small", 1.0, "100.0 %"),
        ("test/boundary/AP/storage tank", 0.25, "25.0 %"),
        ("val/mIoU", 0.2431, "24.3 %"),
        ("test/IoU/water", 0.5325, "53.2 %"),
        ("macro_F1", 0.5, "50.0 %"),
        ("val/l1_ratio", 0.85214, "0.8521"),
        ("val/cosine", 0.5, "0.5000"),
        ("train/loss", 1.25, "1.2500"),
        ("test/mask/AP/ship", math.nan, "n/a"),
        ("test/mask/AP/ship", None, "n/a"),
    ],
)
def test_a_score_has_its_unit(name: str, value: float | None, text: str) -> None:
    assert shown(name, value) == text


def test_names_lose_their_split_alone() -> None:
    assert [bare(name) for name in ("val/box/AP", "IoU/water", "mIoU")] == ["box/AP", "IoU/water", "mIoU"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (100, "2 min"),
        (3600 * 3 + 1200, "3 h 20 min"),
        (7200, "2 h"),
        (1215000, "14 days 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts() -> None:
    assert [counted(1, "image"), counted(9876, "image"), counted(2, "batch", "batches")] == [
        "1 image",
        "9,876 images",
        "2 batches",
    ]
