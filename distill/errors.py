"""The error that users see as one line: what was given, what is allowed, where, and how to fix it."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar

_MOST = 20  # names that are listed in full
_FEW = 5  # of more names, those nearest to what was given


class UserError(Exception):
    """Bad input. The command line prints the message on one line and exits with code 2, without a traceback."""


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> UserError:
    """An error for a name that does not exist, with the nearest valid names; with all of them where they are few.

    Args:
        kind: What the name should have named, for example "RS4D variant".
        given: The name as the user wrote it.
        allowed: Every valid name.
    """
    names = list(allowed)
    nearest = did_you_mean(given, names)
    if len(names) <= _MOST:
        return UserError(f"unknown {kind} {given!r}: {nearest}valid names are {', '.join(names)}")
    if nearest:
        return UserError(f"unknown {kind} {given!r}: {nearest.rstrip()}")
    some = get_close_matches(given, names, n=_FEW, cutoff=0.0)
    more = len(names) - len(some)
    return UserError(f"unknown {kind} {given!r}: valid names are {', '.join(some)} and {more} more")


def did_you_mean(given: str, names: Sequence[str]) -> str:
    """A question with the names nearest to the given one and a space after it; empty if none is near."""
    by_lower_case = {name.lower(): name for name in names}
    nearest = [by_lower_case[name] for name in get_close_matches(given.lower(), by_lower_case, n=3, cutoff=0.5)]
    return f"did you mean {' or '.join(nearest)}? " if nearest else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, to stand inside a sentence; its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


class Stopped(Exception):
    """The user ended a run; the message says how to resume it.

    Attributes:
        code: Exit code of the command line, here as a shell has it after Ctrl-C.
    """

    code: ClassVar[int] = 130


class Preempted(Stopped):
    """SIGTERM ended a run, as job queues do before they kill; started again, it resumes.

    The exit code is EX_TEMPFAIL of sysexits.h, "try again later", which job scripts start the run again on.
    """

    code: ClassVar[int] = 75
