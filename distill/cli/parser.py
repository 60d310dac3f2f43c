"""Parsers of verbs: what `--help` prints fits a screen, and `--help-all` shows the options that are seldom needed."""

import argparse
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from distill.errors import UserError


class VerbParser(argparse.ArgumentParser):
    """A parser of one verb or action. Paragraphs of its description and its epilog are wrapped to the terminal.

    Args:
        prog: The command, such as "distill predict".
        **options: See `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str | None = None, **options: Any) -> None:
        super().__init__(prog, **{"formatter_class": _Paragraphs, **options})
        self._rare: list[argparse.Action] = []
        none = argparse.SUPPRESS
        self.add_argument("--help-all", action=_HelpAll, nargs=0, dest=none, default=none, help=none)

    def add_rare(self, *names: str, **options: Any) -> None:
        """Adds an option that only `--help-all` shows; see `add_argument`."""
        self._rare.append(self.add_argument(*names, **options))

    def format_help(self) -> str:
        """The text of `--help`."""
        with self._without_rare():
            text = super().format_help()
        return f"{text}\nAll options: {self.prog} --help-all\n" if self._rare else text

    def format_help_all(self) -> str:
        """The text of `--help-all`."""
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with the arguments as one line, as all bad input is reported.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message}; see `{self.prog} --help`")

    @contextmanager
    def _without_rare(self) -> Iterator[None]:
        texts = [action.help for action in self._rare]
        for action in self._rare:
            action.help = argparse.SUPPRESS
        try:
            yield
        finally:
            for action, text in zip(self._rare, texts, strict=True):
                action.help = text


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, VerbParser), "only those have the option"
        print(parser.format_help_all(), end="")
        parser.exit()


class _Paragraphs(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(textwrap.fill(" ".join(one.split()), width) for one in paragraphs)
