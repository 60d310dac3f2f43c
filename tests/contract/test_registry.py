"""Every component that the packages hold is found, and has a constructor that a recipe can call."""

import inspect
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

import heads
import students
import teachers
from distill.contracts import Component, DecoderBase, HeadBase, StudentBase, TeacherBase
from distill.discovery import classes_in
from distill.errors import UserError
from tests.contract.cases import components, with_smoke_args

EVERY = [
    pytest.param(member, id=f"{package.__name__}.{name}")
    for package in (students, teachers, heads)
    for name, member in components(package).items()
]


def test_a_component_without_smoke_args_is_named() -> None:
    class Bare(StudentBase):
        pass

    package = ModuleType("mine")
    vars(package).update(__all__=["Bare"], Bare=Bare)
    with pytest.raises(LookupError, match=r"mine\.Bare has no smoke_args"):
        with_smoke_args(package, {})


@pytest.mark.parametrize(
    ("package", "bases"), [(students, StudentBase), (teachers, TeacherBase), (heads, (HeadBase, DecoderBase))]
)
def test_what_reading_the_sources_finds_are_the_components(
    package: ModuleType, bases: type[Component] | tuple[type[Component], ...]
) -> None:
    assert all(issubclass(component, bases) for component in components(package).values())


def test_components_are_found_in_the_files_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "shared.py").write_text("class Shared(contracts.StudentBase, ABC):\n    pass\n", encoding="utf-8")
    (package / "one.py").write_text("class One(Shared):\n    pass\nclass _Part(Shared):\n    pass\n", encoding="utf-8")
    (package / "_old.py").write_text("class Old(StudentBase):\n    pass\n", encoding="utf-8")
    (package / "two.py").write_text("class Two(One):\n    pass\nclass Other(Module):\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    find = classes_in.__wrapped__
    assert find("mine", "StudentBase") == {"One": "mine.one", "Two": "mine.two"}
    (package / "three.py").write_text("class One(StudentBase):\n    pass\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.one and mine\.three both define One"):
        find("mine", "StudentBase")
    (package / "three.py").write_text("class One(:\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"three\.py, line 1, is not valid Python"):
        find("mine", "StudentBase")


@pytest.mark.parametrize("package", [students, teachers, heads])
def test_a_registry_names_what_it_holds(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize("component", EVERY)
def test_constructor_arguments_are_typed_and_described(component: type[nn.Module]) -> None:
    """A recipe names a class and its arguments; `--help` prints what the docstring says of them."""
    described = "\n".join(parent.__doc__ or "" for parent in component.__mro__)
    for name, parameter in inspect.signature(component).parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        assert f"\n        {name}: " in described, name
