"""A judge over HTTP: one loaded judge, a queue before it, and the shapes that trainers and clients speak.

Its modules need the extra ``serve``; limits and batching do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_tools.errors import UserError


@contextmanager
def extra() -> Iterator[None]:
    """Around imports of the extra's packages.

    Raises:
        UserError: one is missing; names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"serve: needs the package {error.name} ({error}); install it with: pip install 'genrm-lightning[serve]'"
        ) from None
