"""The version of the distribution, which pyproject.toml and CITATION.cff state too."""

from typing import Final

__version__: Final = "0.1.0"
