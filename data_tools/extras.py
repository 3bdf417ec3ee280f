"""Libraries that only some of the tools need: imported where they are used, missing in one line."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from data_tools.errors import UserError


def needed(name: str, what: str) -> ModuleType:
    """The module ``name``, without which ``what`` cannot be done.

    Raises:
        UserError: it is not installed; names the extra that brings it.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{what} needs {name}: pip install 'genrm-lightning[data]'") from None
