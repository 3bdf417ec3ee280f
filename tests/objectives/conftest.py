"""Makes the shared rows a fixture of every file here."""

from tests.objectives.common import files

__all__ = ["files"]
