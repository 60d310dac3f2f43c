"""Notices a student that stays on the plateau of the image-independent baseline."""

import warnings


class StuckWarning:
    """Warns once a student has been stuck for several validations in a row.

    Args:
        ratio: A validation L1 above this fraction of the baseline's counts as stuck. A map that ignores the image has
            1.00 in expectation.
        patience: Validations in a row after which it warns.
    """

    def __init__(self, ratio: float, patience: int) -> None:
        self._ratio, self._patience = ratio, patience
        self._validations = 0

    def observe(self, found: float, warming_up: bool) -> None:
        """Takes the L1 of a validation as a fraction of the baseline's; none counts while the rate warms up."""
        self._validations = self._validations + 1 if found > self._ratio and not warming_up else 0
        if self._validations == self._patience:
            warnings.warn(
                f"the student has been at {found:.2f} of the image-independent baseline's L1 for {self._patience} "
                "validations: it predicts positions, not images. Try model.loss.standardize channel, a cosine term "
                "in model.loss.terms, or a longer warm-up",
                stacklevel=1,
            )
