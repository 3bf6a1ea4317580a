"""Target specs: configs and class checks."""

import pytest

from mmkeras.core import Label, Labels, Number
from mmkeras.core.targets import KINDS
from tests.core.errors import says


@pytest.mark.parametrize(
    "spec",
    [Label(), Label(classes=["a", "b"]), Labels(classes=("x", "y"), separator=";"), Number()],
)
def test_config_makes_an_equal_target(spec):
    config = spec.get_config()
    assert KINDS[config.pop("kind")](**config) == spec


def test_classes_become_strings_in_the_given_order():
    assert Label(classes=[10, 2]).classes == ("10", "2")
    assert Label().classes is None
    assert Label().replace(classes=("b", "a")) == Label(classes=("b", "a"))


@pytest.mark.parametrize("make", [Label, Labels])
@pytest.mark.parametrize("classes", [[], ["a"], ["a", "a"], ["1", 1]])
def test_classes_must_be_two_and_differ(make, classes):
    received = f"Received: {tuple(str(c) for c in classes)}"
    with says(ValueError, "`classes` must hold at least two different names", received):
        make(classes=classes)
