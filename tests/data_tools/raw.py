"""What the tests of raw files share."""

import pytest

from data_tools import sources
from data_tools.errors import UserError


def error(path, format="auto"):
    """The one line that reading the file ends in, behind its name."""
    with pytest.raises(UserError) as caught:
        sources.read(path, format)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")
