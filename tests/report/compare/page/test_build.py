import copy
import json
import re
from pathlib import Path

from distill.report.compare.page.build import page
from tests.report.compare.page.example import many

LARGEST = 1_500_000  # bytes


def element(html: str, name: str) -> dict:
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.S)[1])


def test_the_page_holds_the_content_unchanged(content: dict) -> None:
    before = copy.deepcopy(content)
    assert element(page(content), "content") == before
    assert content == before


def test_the_content_cannot_end_its_element(content: dict) -> None:
    hostile = copy.deepcopy(content)
    hostile["sections"][0]["title"] = "</script><!-- script --><script>alert(1)</script>"
    html = page(hostile)
    assert html.count("</script>") == 3
    assert element(html, "content") == hostile


def test_the_page_names_nothing_outside(example_page: Path) -> None:
    html = example_page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}


def test_the_page_of_60_models_stays_small(tmp_path: Path) -> None:
    html = page(many(tmp_path, 60))
    assert len(html.encode()) <= LARGEST
    assert all("src" in image for image in element(html, "pictures")["images"])
