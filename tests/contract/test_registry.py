"""Every component has a case, and a constructor that a recipe can call."""

import inspect
from types import ModuleType

import pytest
from torch import nn

import heads
import students
import teachers
from tests.contract.cases import components, names_without_a_case

EVERY = [
    pytest.param(member, id=f"{package.__name__}.{name}")
    for package in (students, teachers, heads)
    for name, member in components(package).items()
]


def test_every_component_has_a_case() -> None:
    assert not names_without_a_case(), "add it to tests/contract/cases.py"


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
