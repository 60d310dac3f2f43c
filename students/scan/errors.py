"""The error for wrong names of backends and orders, which recipes can contain."""

from distill.errors import UserError


class ScanArgumentError(UserError, ValueError):
    """A backend or an order that does not exist or does not fit.

    As a `UserError` the command line prints it on one line; as a `ValueError` it is what libraries expect.
    """
