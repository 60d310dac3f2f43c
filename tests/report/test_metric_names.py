import pytest

from distill.report.metric_names import MetricName


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/l1", ("", "l1", "")),
        ("test/mIoU", ("", "mIoU", "")),
        ("mIoU", ("", "mIoU", "")),
        ("test/IoU/water/deep", ("", "IoU", "water/deep")),
        ("test/mask/AP", ("mask", "AP", "")),
        ("boundary/AP_small", ("boundary", "AP_small", "")),
        ("val/probe/objects/few_shot", ("probe objects", "few_shot", "")),
        ("test/box/AP/ship/large", ("box", "AP", "ship/large")),
    ],
)
def test_parts_of_a_name(name: str, expected: tuple[str, str, str]) -> None:
    assert MetricName.parse(name) == expected
