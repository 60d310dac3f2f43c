"""The selective scan: one definition, several implementations.

`selective_scan` (sequences, as in mamba-ssm) and `selective_scan_2d` (images, along the orders of `scan_order`) check
their arguments and call the fastest backend that runs; `explain_backend` says which one that is and why;
`selective_scan_reference` is the definition that all are tested against. `selective_state_update` is one step of the
scan, and `causal_conv1d` the convolution that precedes it in Mamba's block.
"""

from students.scan.backends import BackendStatus, explain_backend
from students.scan.convolution import bidirectional_conv1d, causal_conv1d
from students.scan.images import selective_scan_2d
from students.scan.interface import selective_scan
from students.scan.orders import scan_order
from students.scan.reference import selective_scan_reference
from students.scan.streaming import selective_state_update

__all__ = [
    "BackendStatus",
    "bidirectional_conv1d",
    "causal_conv1d",
    "explain_backend",
    "scan_order",
    "selective_scan",
    "selective_scan_2d",
    "selective_scan_reference",
    "selective_state_update",
]
