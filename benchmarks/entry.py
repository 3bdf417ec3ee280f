"""How a benchmark's command ends: a mistake in one line, Ctrl-C without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from data_tools.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Run ``main``; exit with 2 on a mistake of the user's, with 130 on Ctrl-C."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
