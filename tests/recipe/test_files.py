"""Files of recipes that are there but cannot be read, or say something twice."""

from pathlib import Path

import pytest

from distill.errors import UserError
from distill.recipe.compose import compose, read_raw
from distill.recipe.find import find, require_run


@pytest.mark.parametrize(
    ("text", "key", "again"),
    [
        ("trainer:\n  max_steps: 1\ntrainer: {devices: 1}\n", "trainer", "line 3, column 1"),
        (
            "trainer: {callbacks: [{class_path: distill.EMA, init_args: {decay: 0.9, decay: 0.5}}]}\n",
            "decay",
            "line 1,",
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, key: str, again: str) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text(text)
    with pytest.raises(UserError, match="is no valid YAML") as caught:
        compose(["rs4d_small", str(twice)])
    assert f"{twice} is no valid YAML: {key!r} is in line 1 and again in " in str(caught.value)
    assert again in str(caught.value)


def test_merge_keys_of_yaml_are_no_repetition(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("run: &a {dir: x}\ndata: {<<: *a, root: y, init_args: &b {dir: z, <<: *a}}\nx: *b")
    arguments = {"dir": "z"}
    content = {"run": {"dir": "x"}, "data": {"dir": "x", "root": "y", "init_args": arguments}, "x": arguments}
    assert read_raw(tmp_path / "a.yaml") == content


def test_a_number_without_a_point_and_the_same_in_quotes_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("run: {experiment: '1e-3', reference: 2e3}\ndata: {root: 1e-3 px}\n")
    content = {"run": {"experiment": "1e-3", "reference": 2000.0}, "data": {"root": "1e-3 px"}}
    assert read_raw(tmp_path / "a.yaml") == content


def test_a_place_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    name = str(tmp_path / ("x" * 300))  # an error of the system, as is a folder without permission
    with pytest.raises(UserError, match=r"x cannot be read as a recipe \(\[Errno "):
        find(name)
    with pytest.raises(UserError, match="does not exist; pass the folder that `distill fit` wrote"):
        require_run(name)
    (tmp_path / "recipe.yaml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cannot be read as a recipe .*pass a YAML file or a run folder"):
        find(str(tmp_path))
