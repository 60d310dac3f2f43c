"""The axes of a sweep as they are typed, and the cells that they span."""

import pytest

from distill.errors import UserError
from distill.recipe.axes import Axis, Range, cells, read_axis


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("0.1,0.2", ("0.1", "0.2")),
        ("{noise: 0.1, mask: 0},{noise: 0.2, mask: [1, 2]}", ("{noise: 0.1, mask: 0}", "{noise: 0.2, mask: [1, 2]}")),
        ("[256, 512],[512]", ("[256, 512]", "[512]")),
        ("students.RS4D,null", ("students.RS4D", "null")),
        ("'a,b',{x: \"}\"}", ("'a,b'", '{x: "}"}')),
        ("don't,do", ("don't", "do")),
        ("one", ("one",)),
    ],
)
def test_commas_inside_brackets_and_quotes_part_nothing(given: str, values: tuple[str, ...]) -> None:
    assert read_axis("model.corruption", given) == Axis("model.corruption", values)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0.1..0.5", Range("k", 0.1, 0.5, log=False, whole=False)),
        ("1..8", Range("k", 1, 8, log=False, whole=True)),
        ("log:1e-4..1e-2", Range("k", 1e-4, 1e-2, log=True, whole=False)),
        ("-1..1", Range("k", -1, 1, log=False, whole=True)),
    ],
)
def test_ranges(given: str, expected: Range) -> None:
    assert read_axis("k", given) == expected


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("", "1,2", "no key of a recipe"),
        ("a", "1,,2", "a value is empty"),
        ("a", "1,1", "a value twice"),
        ("a", "{b: 1,2", "} is missing at the end"),
        ("a", "2..1", "is no range"),
        ("a", "log:0..1", "is no range"),
        ("a", "small..large", "is no range"),
        ("a", "0...inf", "is no range"),
        ("a", "0..inf", "is no range"),
    ],
)
def test_what_is_no_axis_is_refused(key: str, given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_axis(key, given)


def test_cells_are_named_after_their_values_wherever_they_stand() -> None:
    first = cells([Axis("model.corruption.noise", ("0", "0.1")), Axis("recipe", ("size/cpu_rs4d", "data/nwpu"))])
    assert [cell.name for cell in first] == [
        "noise=0,recipe=size_cpu_rs4d",
        "noise=0,recipe=data_nwpu",
        "noise=0.1,recipe=size_cpu_rs4d",
        "noise=0.1,recipe=data_nwpu",
    ]
    assert first[0].words == ["--model.corruption.noise=0"]
    assert first[0].recipes == ["size/cpu_rs4d"]
    longer = cells([Axis("model.corruption.noise", ("0.2", "0")), Axis("recipe", ("data/nwpu",))])
    assert longer[1].name == "noise=0,recipe=data_nwpu"


def test_keys_with_one_end_are_told_apart() -> None:
    axes = [Axis("model.optim.lr", ("1",)), Axis("model.adapter.lr", ("2",))]
    assert cells(axes)[0].name == "optim.lr=1,adapter.lr=2"
    with pytest.raises(UserError, match="twice"):
        cells([Axis("a.b", ("1",)), Axis("a.b", ("2",))])


def test_values_that_look_alike_as_folders_are_told_apart() -> None:
    values = ("a*b", "a?b", "..", "x" * 80, "x" * 81, "{noise: 0.1, mask: 0}")
    names = [cell.name for cell in cells([Axis("k", values)])]
    assert len(set(names)) == len(values)
    assert names[-1] == "k=noise_0.1_mask_0"
    assert all("/" not in name and ".." not in name and len(name) < 90 for name in names)


@pytest.mark.parametrize("values", [("1", "[1]", "2"), ("2", "/data/a", "data/a")])
def test_values_that_would_have_one_folder_are_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="would have one folder") as caught:
        cells([Axis("k", values)])
    assert "--over k: " in str(caught.value)
    assert "2" not in str(caught.value)
