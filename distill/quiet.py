"""Third-party messages that no user of a run can act on, and where each comes from; everything else is shown."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Of PyTorch Lightning.
_MESSAGES = (
    ".*args parameter is intended to run.*",  # said of every call from Python, ours included
    ".*does not have many workers.*",
    ".*treespec, LeafSpec.*",
    "Experiment logs directory .* exists",
    "Checkpoint directory .* exists and is not empty.*",
    ".*callbacks used to create the checkpoint.*",
    ".*overrides the configure_model callback.*",  # said of EMA, whose models are not sharded here
    "The number of training batches .* is smaller than the logging interval",  # steps are counted on over epochs
)
_LOGGERS = ("pytorch_lightning", "lightning_fabric")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, those messages are not shown."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _MESSAGES:
            warnings.filterwarnings("ignore", message=message)
        yield
