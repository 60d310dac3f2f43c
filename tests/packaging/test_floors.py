"""The floors that `make minimum` installs are those of pyproject.toml."""

import pytest

from tests.packaging.floors import PYPROJECT, TOOLS, floor, floors


@pytest.mark.parametrize(
    ("line", "lowest"),
    [
        ("torch>=2.6", "torch==2.6"),
        ("mmcv-lite>=2.0.0,<2.2", "mmcv-lite==2.0.0"),
        ("mmdet==3.3.0", "mmdet==3.3.0"),
        ("jsonargparse[signatures]>=4.39,<5,!=4.40", "jsonargparse[signatures]==4.39"),
    ],
)
def test_the_lowest_version_is_taken(line: str, lowest: str) -> None:
    assert floor(line) == lowest


@pytest.mark.parametrize("line", ["numpy", "numpy<3", "numpy>=1,>=2"])
def test_a_requirement_without_a_single_floor_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="names no single lowest version"):
        floor(line)


def test_every_dependency_has_a_floor() -> None:
    lines = floors(PYPROJECT.read_text(encoding="utf-8"))
    names = [line.split("==")[0].split("[")[0] for line in lines]
    assert {"torch", "numpy", "mmdet", *TOOLS} <= set(names)
    assert len(names) == len(set(names))
