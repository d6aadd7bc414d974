"""Prints the requirements of pyproject.toml with every lower bound turned into a pin.
Development tools stay as they are.

python tests/lowest_versions.py | pip install --requirement /dev/stdin
"""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
services = [line for name in ("stac", "earthengine", "dhus", "s3", "release") for line in extras[name]]
pinned = [line.replace(">=", "==") for line in project["dependencies"] + extras["pipeline"] + services]
left_out = {"ruff", "mypy", "import-linter", "pre-commit", "torchmetrics"}  # the last would bring a torch of its own
tools = [line for line in extras["dev"] if line.split(">=")[0] not in left_out]
print("\n".join(pinned + extras["sample"] + tools))
