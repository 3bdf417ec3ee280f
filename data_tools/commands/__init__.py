"""What ``python -m data_tools`` does: a small module a command, found by its presence in this folder.

A command is a module whose name is the command's, with

    SUMMARY       a line for the list of commands
    PLACE         where it stands in that list: a number
    IN_PLACE      optional: True where --out may be the FILE that is read
    PROGRESS      optional: True where it shows a display on stderr
    EXAMPLES      command lines, one a line, shown at the end of its help
    add(parser)   its flags
    run(flags)    does it, and prints a few lines of numbers; its docstring says in the help what SUMMARY does not

Nothing else has to be touched to add one. Heavy imports stand inside functions: the help needs none of them.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def commands() -> dict[str, ModuleType]:
    """The commands there are, by name, in the order of their PLACE."""
    names = (found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    modules = {name: import_module(f"{__name__}.{name}") for name in names}
    return dict(sorted(modules.items(), key=lambda item: (item[1].PLACE, item[0])))
