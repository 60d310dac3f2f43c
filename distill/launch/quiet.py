"""Third-party messages that no user of a run can act on; everything else is shown, in one line each."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_MESSAGES = (
    # Of PyTorch Lightning.
    ".*does not have many workers.*",
    "Total length of `list` across ranks is zero.*",  # of a run without validation, which it announces
    ".*treespec, LeafSpec.*",
    "Experiment logs directory .* exists",
    "Checkpoint directory .* exists and is not empty.*",
    ".*callbacks used to create the checkpoint.*",
    ".*overrides the configure_model callback.*",  # of EMA, whose models are not sharded here
    ".*WeightAveraging callback, but loading a checkpoint outside.*",  # of EMA, whose averages are loaded
    "The number of training batches .* is smaller than the logging interval",  # steps are counted on over epochs
    # Of PyTorch: a loss scaler leaves out first steps.
    r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`",
)
_LOGGERS = ("pytorch_lightning", "lightning_fabric")


@contextmanager
def quiet() -> Iterator[None]:
    """Hides those messages inside the block, and prints warnings as one line that begins with "warning:"."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    formatted, last_resort = warnings.formatwarning, logging.lastResort
    with warnings.catch_warnings():
        for message in _MESSAGES:
            warnings.filterwarnings("ignore", message=message)
        warnings.formatwarning = _in_one_line
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        logging.lastResort = _WithLevel()  # of records that nobody has set up logging for
        try:
            yield
        finally:
            warnings.formatwarning, logging.lastResort = formatted, last_resort
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _WithLevel(logging.Handler):
    """Prints warnings of this project as those of others are printed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {' '.join(str(message).split())}\n"
