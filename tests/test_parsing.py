import doctest

from genrm_lightning import parsing


def test_doctest():
    found = doctest.testmod(parsing)
    assert found.attempted and not found.failed


def test_merging_touches_neither():
    base, changes = {"a": {"b": [1]}}, {"a": {"c": [2]}, "d": {"e": 3}}
    result = parsing.merged(base, changes)
    result["a"]["b"].append(0)
    result["d"]["e"] = 0
    assert (base, changes) == ({"a": {"b": [1]}}, {"a": {"c": [2]}, "d": {"e": 3}})
    assert parsing.merged({"a": {"b": 1}}, {"a": None}) == {"a": None}
