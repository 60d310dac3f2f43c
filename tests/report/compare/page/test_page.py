import copy
import json

import pytest

pytestmark = pytest.mark.xdist_group("chromium")

MISSING = "\N{EN DASH}"
HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(2)</script>",
    "\"'`&lt;b&gt; \\ ${x} <!--",
    "衛星 🛰 éß‮x",
    "long" * 60,
]


def grounds(tab) -> list[int]:
    """Red, green and blue of the ground."""
    colour = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return [int(part) for part in colour.strip("rgb()").split(",")]


def open_rows(tab) -> None:
    tab.locator("button.model").evaluate_all("all => all.forEach((one) => one.click())")


def renamed(content: dict) -> dict:
    """The content with hostile names wherever users choose them."""
    text = json.dumps(content)
    for name, bad in zip(("RS4D tiny", "VMamba tiny", "storage tank", "images/000.jpg", "NWPU"), HOSTILE, strict=True):
        text = text.replace(name, json.dumps(bad)[1:-1])
    return json.loads(text)


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_makes_the_page_scroll_sideways(open_page, content: dict, width: int) -> None:
    tab = open_page(renamed(content), viewport={"width": width, "height": 844})
    open_rows(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_names_are_text(open_page, content: dict) -> None:
    tab = open_page(renamed(content))
    open_rows(tab)
    assert tab.locator("#main img:not(.picture img), #main script, #main b:not(.key b)").count() == 0
    names = tab.locator("#s0 button.model").all_inner_texts()
    assert names[0] == f"{HOSTILE[0]} · scratch"
    assert names[2] == f"{HOSTILE[1]} · scratch"
    assert HOSTILE[2] in tab.locator("#s0 .by-class").inner_text()
    assert HOSTILE[4] in tab.locator("#s0 h2").inner_text()
    tab.locator("#s0 .pareto .point").first.hover()
    assert HOSTILE[0] in tab.locator("#tip").inner_text()


def test_dark_and_light_follow_the_system_and_the_button(open_file, example_page) -> None:
    dark = open_file(example_page, color_scheme="dark")
    assert max(grounds(dark)) < 64
    dark.get_by_role("button", name="Light").click()
    assert min(grounds(dark)) > 240
    assert min(grounds(open_file(example_page, color_scheme="light"))) > 240


def test_sections_recipes_and_environments_are_shown(tab) -> None:
    assert tab.title() == "Models compared: Instance segmentation on NWPU, Distillation on SA-1B"
    assert tab.locator("nav a").count() == 2
    recipes, environments = tab.locator("#s0 .recipes"), tab.locator("#s0 .environments")
    assert recipes.locator("tbody tr").first.inner_text().split("\t") == [
        "model.init_args.optim.lr",
        "0.001",
        "0.0003",
        "0.001",
        "0.0003",
        "0.0001",
    ]
    assert "AMD EPYC 7543" in environments.inner_text()
    assert "torch 2.9.1, timm 1.0.22" in environments.inner_text()
    assert "2 different machines" in tab.locator("#s0 > .notes").first.inner_text()


def test_the_header_says_how_times_were_measured(open_page, content: dict) -> None:
    measured = {"cpu": "Ryzen 9", "threads": 1, "gpus": ["RTX 4090"], "torch": "2.9.1", "rounds": 7}
    text = open_page(content | {"measured": measured}).locator("#top").inner_text()
    assert "all models in turns in one process, 7 rounds, Ryzen 9, 1 thread, RTX 4090, torch 2.9.1" in text


def test_without_javascript_the_page_names_the_other_file(open_file, example_page) -> None:
    tab = open_file(example_page, java_script_enabled=False)
    assert "compare.md" in tab.locator("noscript").inner_text()


def test_one_bare_run_is_enough(open_page, content: dict) -> None:
    bare = copy.deepcopy(content)
    section = bare["sections"][0]
    row = section["rows"][0]
    row["values"] = {column["key"]: {"missing": "not recorded"} for column in section["columns"]}
    row |= {"seeds": [0], "runs": ["runs/a"], "commands": [], "dominated_by": [], "head": None, "image_size": None}
    section |= {"rows": [row], "pareto": {}, "curves": [], "classes": None, "pictures": [], "recipes": []}
    section |= {"environments": [], "notes": []}
    bare |= {"sections": [section], "command": "", "passed_over": []}
    tab = open_page(bare)
    assert tab.locator("button.model").all_inner_texts() == ["RS4D tiny · scratch"]
    assert "No model has both a quality and a cost." in tab.locator(".pair").inner_text()
    assert "No run has logged a curve." in tab.locator(".pair").inner_text()
    tab.locator("button.model").click()
    assert "runs/a" in tab.locator(".opened").inner_text()
    tab.locator("td[data-column='mask/AP']").hover()
    assert "not recorded" in tab.locator("#tip").inner_text()


def test_gaps_in_curves_and_classes_are_left_out(open_page, content: dict) -> None:
    gaps = copy.deepcopy(content)
    section = gaps["sections"][0]
    line = section["curves"][0]["lines"][0]
    line |= {"mean": [None, *line["mean"][1:]], "low": None, "high": None, "hours": None}
    section["classes"]["pairs"][0]["classes"][0] |= {"value": None, "difference": None}
    tab = open_page(gaps)
    assert tab.locator("#s0 .curves .plot .line").count() == 5
    assert tab.locator("#s0 .curves .band").count() == 4
    assert MISSING in tab.locator("#s0 .by-class").inner_text()
    tab.locator("#s0 .curves").get_by_label("by").select_option("hours")
    assert tab.locator("#s0 .curves .plot .line").count() == 4
    assert "Hours were not recorded by RS4D tiny · scratch." in tab.locator("#s0 .curves").inner_text()
