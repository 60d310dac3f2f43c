"""The selective scan: one function, several implementations.

`selective_scan` checks its arguments and calls the fastest backend that runs; `selective_scan_reference` is the
definition that all of them are tested against; `explain_backend` says which one runs and why.
"""

from students.scan.backends import BackendStatus, explain_backend
from students.scan.interface import selective_scan
from students.scan.reference import selective_scan_reference

__all__ = ["BackendStatus", "explain_backend", "selective_scan", "selective_scan_reference"]
