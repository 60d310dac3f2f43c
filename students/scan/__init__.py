"""The selective scan: one definition, several implementations.

`selective_scan` (sequences, as in mamba-ssm) and `selective_scan_2d` (images, along the orders of `scan_order`) check
their arguments and call the fastest backend that runs; `explain_backend` says which one that is and why;
`selective_scan_reference` is the definition that all are tested against. `causal_conv1d` is the convolution
that precedes it in Mamba's block; `selective_state_update` and `causal_conv1d_update` are one step of each.
"""

from students.scan.backends import BackendStatus, explain_backend
from students.scan.convolution import bidirectional_conv1d, causal_conv1d
from students.scan.images import selective_scan_2d
from students.scan.interface import selective_scan
from students.scan.orders import scan_order
from students.scan.reference import selective_scan_reference
from students.scan.streaming import causal_conv1d_update, selective_state_update

__all__ = [
    "BackendStatus",
    "bidirectional_conv1d",
    "causal_conv1d",
    "causal_conv1d_update",
    "explain_backend",
    "scan_order",
    "selective_scan",
    "selective_scan_2d",
    "selective_scan_reference",
    "selective_state_update",
]
