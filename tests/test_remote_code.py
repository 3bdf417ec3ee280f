"""No model that a config names may bring code of its own: every from_pretrained says so."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# Adapters hold tensors and JSON alone, and peft has no such switch.
_NO_CODE = {"PeftConfig", "PeftModel"}


def calls(source: str) -> list[ast.Call]:
    """Every call of a from_pretrained that could run a model's own code."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = [call for call in found if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"]
    return [call for call in found if getattr(call.func.value, "id", None) not in _NO_CODE]


def refuses(call: ast.Call) -> bool:
    said = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
    return [getattr(value, "value", None) for value in said] == [False]


def test_the_check_can_fail():
    good, bad, worse = calls("A.from_pretrained(x, trust_remote_code=False); A.from_pretrained(x)") + calls(
        "A.from_pretrained(x, trust_remote_code=True)"
    )
    assert [refuses(call) for call in (good, bad, worse)] == [True, False, False]


FILES = [str(path.relative_to(SRC)) for path in sorted(SRC.rglob("*.py")) if calls(path.read_text())]


@pytest.mark.parametrize("file", FILES)
def test_no_model_runs_its_own_code(file):
    assert [call.lineno for call in calls((SRC / file).read_text()) if not refuses(call)] == []
