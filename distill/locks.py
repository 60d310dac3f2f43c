"""Locks on parts of a file; they end with their process."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def locked(path: Path, first: int, count: int, wait: bool = False) -> Iterator[bool]:
    """Whether this process holds the lock on `count` bytes from `first`; the bytes need not exist.

    The operating system keeps the lock and ends it with the process, so that a killed process leaves none behind. It
    is one between processes: another lock of the same process is granted, and the first lock that a process gives back
    gives back all that it has on the file.

    Args:
        path: The file, which is made; on a network disk all machines see its locks.
        first: Position in the file.
        count: At least 1.
        wait: Whether to wait until no other process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            if sys.platform == "win32":
                file.seek(first)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, count)
            else:
                fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
        except OSError as error:
            # A disk without locks is no reason to stop: files are written in one step each, and are the same twice.
            yield error.errno not in _TAKEN
            return
        try:
            yield True
        finally:
            if sys.platform == "win32":
                file.seek(first)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, count)
            else:
                fcntl.lockf(file, fcntl.LOCK_UN, count, first)
