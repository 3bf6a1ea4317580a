"""`register`: found by name, never overwritten in silence."""

import keras

from mmkeras.core import register
from tests.core.errors import says


def named(name: str, module: str, qualname: str | None = None) -> type:
    cls = type(name, (keras.layers.Layer,), {"__module__": module})
    cls.__qualname__ = qualname or name
    return cls


def test_a_registered_class_is_found_by_name():
    cls = register(named("RegisteredOnce", "one"))
    assert keras.saving.get_registered_object("mmkeras>RegisteredOnce") is cls
    assert keras.saving.get_registered_name(cls) == "mmkeras>RegisteredOnce"


def test_a_second_class_of_the_same_name_is_refused():
    first = register(named("RegisteredTwice", "one"))
    with says(
        ValueError,
        "'mmkeras>RegisteredTwice' is already registered by one",
        "Received a second class from two",
        "Rename one",
    ):
        register(named("RegisteredTwice", "two"))
    assert keras.saving.get_registered_object("mmkeras>RegisteredTwice") is first
    with says(ValueError, "already registered"):
        register(named("RegisteredTwice", "one", "Outer.RegisteredTwice"))


def test_the_same_class_may_register_again():
    """A module that is reloaded registers a new object of the same module and name."""
    register(named("RegisteredAgain", "one"))
    again = register(named("RegisteredAgain", "one"))
    assert keras.saving.get_registered_object("mmkeras>RegisteredAgain") is again
