"""Registration with Keras under the package name `mmkeras`, refusing a name used twice."""

import keras

PACKAGE = "mmkeras"


def register(cls: type) -> type:
    """Class decorator: makes `keras.models.load_model` find `cls` by name.

    Keras silently overwrites a name that is registered twice, so that a saved model would load
    another class. This refuses a second, different class of the same name.

    Raises:
        ValueError: another class is registered under this name.
    """
    known = keras.saving.get_registered_object(f"{PACKAGE}>{cls.__name__}")
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(
            f"The name '{PACKAGE}>{cls.__name__}' is already registered by {known.__module__}. "
            f"Received a second class from {cls.__module__}. Rename one of the two."
        )
    return keras.saving.register_keras_serializable(package=PACKAGE)(cls)
