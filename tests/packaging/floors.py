"""Prints the oldest versions that pyproject.toml allows, one requirement a line, for the environment of `make minimum`.

Test tools come at their floors too. What these packages depend on themselves is left to pip.
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Of the extra `dev`: what runs the tests, and the oracles of those that run.
TOOLS = ("pytest", "pytest-xdist", "scikit-learn", "segment-anything", "segmentation-models-pytorch", "transformers")


def floor(line: str) -> str:
    """The requirement with its lowest version: "torch>=2.6,<3" becomes "torch==2.6".

    Raises:
        ValueError: It names no lowest version.
    """
    requirement = Requirement(line)
    lowest = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
    if len(lowest) != 1:
        raise ValueError(f"{line!r} names no single lowest version")
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}=={lowest[0]}"


def floors(content: str) -> list[str]:
    """The floors of all dependencies, of MMDetection and of the test tools, from the text of pyproject.toml."""
    project = tomllib.loads(content)["project"]
    extras = project["optional-dependencies"]
    tools = [line for line in extras["dev"] if Requirement(line).name in TOOLS]
    return [floor(line) for line in (*project["dependencies"], *extras["mmdet"], *tools)]


if __name__ == "__main__":
    print("\n".join(floors(PYPROJECT.read_text(encoding="utf-8"))))
