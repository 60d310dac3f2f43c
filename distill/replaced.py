"""Replaces a method of one object inside a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(method: Callable[..., Any], by: Callable[..., Any]) -> Iterator[None]:
    """Replaces a method of an object inside the block.

    Args:
        method: As the object has it, such as `module.forward`.
        by: Gets the method, then its arguments.
    """
    name = method.__name__
    owner: Any = vars(method.__self__)  # type: ignore[attr-defined]
    before = owner.get(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return by(method, *args, **kwargs)

    call.__name__ = name
    call.__self__ = method.__self__  # type: ignore[attr-defined]  # so that it can be replaced in turn
    owner[name] = call
    try:
        yield
    finally:
        if before is None:
            del owner[name]
        else:
            owner[name] = before
