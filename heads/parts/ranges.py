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


def require_share(**given: float) -> None:
    """Refuses numbers that are not in [0, 1], such as a probability that is written in per cent.

    Args:
        given: Keys of the head and their values.

    Raises:
        UserError: One is not.
    """
    for key, value in given.items():
        if not 0 <= value <= 1:
            raise UserError(f"model.head.{key} is {value}; it must be in [0, 1]")
