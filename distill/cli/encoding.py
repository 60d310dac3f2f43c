"""Files are UTF-8; output uses the terminal's encoding as far as possible."""

import codecs
import locale
import os
import sys
from io import TextIOWrapper


def restart_in_utf8_mode() -> None:
    """Restarts the command in Python's UTF-8 mode if the locale has another encoding.

    Files of this project are UTF-8 in any case; jsonargparse and Lightning open theirs in the locale's encoding.
    """
    already = sys.flags.utf8_mode or os.environ.get("PYTHONUTF8") == "1"
    if already or codecs.lookup(locale.getencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def escape_what_cannot_be_shown() -> None:
    """Escapes characters that the terminal's encoding lacks, such as those of class names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
