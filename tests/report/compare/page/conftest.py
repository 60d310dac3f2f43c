"""One Chromium for all tests of a file; a test fails if its page logs an error or asks for anything."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill.report.compare.page.build import page as built
from tests.chromium import browser as browser
from tests.report.compare.page.example import content as example


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return example(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def usual_tab(browser):
    """A tab for all tests that do not ask for another: a new one takes longer than loading a page again."""
    return browser.new_context(viewport={"width": 1400, "height": 900}).new_page()


@pytest.fixture
def open_file(browser, usual_tab) -> Iterator[Callable]:
    """Opens a page; fails if it logs an error or asks for anything but itself."""
    wrong: list[str] = []
    own = []  # contexts of this test
    heard: list[tuple] = []

    def listen(tab, event: str, hear: Callable) -> None:
        tab.on(event, hear)
        heard.append((tab, event, hear))

    def opened(path: Path, **options: object):
        tab = usual_tab
        if options:
            own.append(browser.new_context(**options))
            tab = own[-1].new_page()
        listen(tab, "pageerror", lambda error: wrong.append(f"error: {error}"))
        listen(tab, "console", lambda message: wrong.append(f"console: {message.text}"))
        listen(tab, "dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        allowed = ("data:", path.as_uri())
        listen(tab, "request", lambda asked: asked.url.startswith(allowed) or wrong.append(asked.url[:80]))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for tab, event, hear in heard:
        tab.remove_listener(event, hear)
    for context in own:
        context.close()
    assert not wrong


@pytest.fixture
def open_page(open_file: Callable, tmp_path: Path) -> Callable:
    """Opens the page of a content."""

    def opened(content: dict, **options: object):
        path = tmp_path / "compare.html"
        path.write_text(built(content), encoding="utf-8")
        return open_file(path, **options)

    return opened


@pytest.fixture(scope="session")
def example_page(content: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "compare.html"
    path.write_text(built(content), encoding="utf-8")
    return path


@pytest.fixture
def tab(open_file: Callable, example_page: Path):
    return open_file(example_page)
