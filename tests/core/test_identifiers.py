"""`resolve` and `nearest`."""

import doctest

import pytest

from mmkeras.core import identifiers, resolve
from mmkeras.core.identifiers import nearest
from tests.core.errors import says

TABLE = {"concat": list, "gated": dict, "late": set}


def test_a_name_and_a_config():
    assert resolve("gated", TABLE, "fusion") == (dict, {})
    config = {"name": "concat", "dim": 4, "dropout": 0.1}
    assert resolve(config, TABLE, "fusion") == (list, {"dim": 4, "dropout": 0.1})
    assert config["name"] == "concat"  # not changed


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with says(
        ValueError,
        "Unknown fusion 'concta'",
        "Known: concat, gated, late.",
        "Did you mean 'concat'?",
        "pass the instance itself",
    ):
        resolve("concta", TABLE, "fusion")
    with pytest.raises(ValueError) as caught:
        resolve({"name": "xyzzy"}, TABLE, "fusion")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("wrong", [3, None, {"dim": 4}, {"name": 3}, ["concat"]])
def test_another_type_is_refused(wrong):
    kind = type(wrong).__name__
    with says(TypeError, "A fusion must be a name, a dict", repr(wrong), kind, "Known: concat"):
        resolve(wrong, TABLE, "fusion")


def test_nearest():
    assert nearest("a", []) == "Known: none."
    assert nearest("imge", {"text": 0, "image": 0}) == "Known: image, text. Did you mean 'image'?"
    assert nearest(3, [2, 1]) == "Known: 1, 2."


def test_the_docstring_runs():
    tried = doctest.testmod(identifiers)
    assert tried.attempted >= 1 and not tried.failed
