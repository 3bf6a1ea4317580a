"""Argument checks: accepted values come back normalised, others are refused with the rule."""

import numpy as np
import pytest

from mmkeras.core import Image, checks
from tests.core.errors import says


def test_whole():
    assert checks.whole("n", 3) == 3
    assert type(checks.whole("n", np.int64(3))) is int
    assert checks.whole("n", 0, 0) == 0
    for wrong in (0, -1, 1.0, "1", None, True, np.float64(2)):
        received = f"n={wrong!r}"
        with says(ValueError, "`n` must be a whole number of at least 1", received):
            checks.whole("n", wrong)


def test_real():
    assert checks.real("x", 1) == 1.0
    assert type(checks.real("x", np.float32(0.5))) is float
    assert checks.real("x", 1, 0, 1) == 1.0  # both ends are in
    for wrong in ("1", None, True, 1j):
        with says(ValueError, "`x` must be a number", f"x={wrong!r}"):
            checks.real("x", wrong)
    for wrong in (-0.1, 1.1, float("nan"), float("inf")):
        with says(ValueError, "`x` must lie between 0.0 and 1.0", f"x={wrong!r}"):
            checks.real("x", wrong, 0.0, 1.0)
    with says(ValueError, "x=inf"):
        checks.real("x", float("inf"))


def test_one_of():
    assert checks.one_of("mode", "a", ("b", "a")) == "a"
    with says(ValueError, "`mode` must be one of ['a', 'b']", "mode='c'"):
        checks.one_of("mode", "c", ("b", "a"))


@pytest.mark.parametrize("wrong", ["a b", "1a", "", "image_mask", "a-b", "a/b", None, 3])
def test_identifier(wrong):
    with says(
        ValueError,
        "must be a Python identifier that does not end in '_mask'",
        f"Received: {wrong!r}",
        "columns={'new_name': 'column'}",
    ):
        checks.identifier("A modality's name", wrong)
    assert checks.identifier("A name", "image_1") == "image_1"


def test_modality_names():
    assert checks.modality_names({"b": Image(), "a": Image()}) == ("b", "a")
    assert checks.modality_names(["b", "a"]) == ("b", "a")
    for wrong in ("image", None, 3, {"image"}):
        with says(ValueError, "`modalities` must be a dict of name -> spec", repr(wrong)):
            checks.modality_names(wrong)
    for wrong in ([], {}, ["a", "a"]):
        received = f"Received: {tuple(wrong)}"
        with says(ValueError, "at least one modality, and each once", received):
            checks.modality_names(wrong)
    with says(ValueError, "A modality's name must be a Python identifier", "'image mask'"):
        checks.modality_names({"image mask": Image()})
