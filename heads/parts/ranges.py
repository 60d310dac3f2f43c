"""Range checks of the numbers that a recipe gives to a head."""

from distill.errors import UserError


def require_at_least(least: float, **given: float) -> None:
    """Refuses numbers below `least`, and NaN.

    Args:
        least: The smallest that is allowed.
        given: Keys of the head and their values.

    Raises:
        UserError: One is too small.
    """
    for key, value in given.items():
        if not value >= least:
            raise UserError(f"model.head.{key} is {value}; it must be {least} or more")
