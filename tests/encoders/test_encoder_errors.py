"""What `encoders.get` takes, and the errors that teach."""

import keras
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.encoders import ENCODERS
from tests.encoders.inputs import SPECS


@pytest.mark.parametrize("kind", ENCODERS)
def test_none_takes_the_first_of_the_kind(kind):
    assert encoders.get(None, "x", SPECS[kind]).name == f"x_{next(iter(ENCODERS[kind]))}"


@pytest.mark.parametrize("modality", [mk.Text(length=4), mk.Vector(size=3)], ids=lambda m: m.kind)
def test_an_unadapted_modality_is_refused(modality):
    for name in ENCODERS[modality.kind]:
        with pytest.raises(ValueError, match="'x' must be adapted before.*Received.*Use `data"):
            encoders.get(name, "x", modality)


def test_a_too_small_picture_is_refused():
    with pytest.raises(ValueError, match=r"\(15, 40\) is too small for 4 stages.*at least 16 pix"):
        encoders.image_cnn("x", mk.Image(size=(15, 40)))
    with pytest.raises(ValueError, match=r"encoders=\{'x': \{'name': 'cnn', 'filters': \(16, 32\)"):
        encoders.image_cnn("x", mk.Image(size=8))


@pytest.mark.parametrize(
    ("kind", "wrong", "nearest"),
    [("text", "transfomer", "transformer"), ("image", "cn", "cnn"), ("vector", "mpl", "mlp")],
)
def test_an_unknown_name_gets_the_nearest(kind, wrong, nearest):
    text = f"Unknown encoder for {kind} modalities '{wrong}'.*Did you mean '{nearest}'"
    for identifier in (wrong, {"name": wrong}):
        with pytest.raises(ValueError, match=text):
            encoders.get(identifier, "x", SPECS[kind])


@pytest.mark.parametrize("identifier", [3, {"filters": (8,)}, ["cnn"]])
def test_not_an_identifier(identifier):
    with pytest.raises(TypeError, match="must be a name, a dict .* or an instance. Received"):
        encoders.get(identifier, "x", SPECS["image"])


@pytest.mark.parametrize("name", ["", "1x", "a b", "a/b", "x_mask", 3])
def test_a_name_that_cannot_name_a_layer(name):
    with pytest.raises(ValueError, match="A modality's name must be a Python identifier.*Received"):
        encoders.get(None, name, SPECS["vector"])


def custom(name="x", inputs=None, outputs=("tokens", "mask")):
    """A model with the given names of inputs and outputs."""
    names = inputs or (name, f"{name}_mask")
    value = keras.Input((7,), name=names[0])
    mask = keras.Input((), dtype="bool", name=names[1])
    tokens = keras.layers.Reshape((1, 4))(keras.layers.Dense(4)(value))
    return keras.Model(
        dict(zip(names, (value, mask), strict=True)),
        dict(zip(outputs, (tokens, keras.layers.Reshape((1,))(mask)), strict=True)),
    )


def test_a_model_of_the_right_names_is_taken():
    model = custom()
    assert encoders.get(model, "x", SPECS["vector"]) is model
    assert encoders.get(lambda name, modality: model, "x", SPECS["vector"]) is model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (custom(inputs=("y", "y_mask")), r"have the inputs \['x', 'x_mask'\].*\['y', 'y_mask'\]"),
        (custom(inputs=("x", "mask")), r"have the inputs \['x', 'x_mask'\].*\['mask', 'x'\]"),
        (custom(outputs=("tokens", "m")), r"have the outputs \['mask', 'tokens'\].*\['m', 'tok"),
        (keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)]), "have the inputs"),
    ],
    ids=["inputs", "mask", "outputs", "sequential"],
)
def test_a_model_of_other_names_is_refused(model, text):
    for identifier in (model, lambda name, modality: model):
        with pytest.raises(ValueError, match=f"An encoder for 'x' must {text}"):
            encoders.get(identifier, "x", SPECS["vector"])


def test_a_callable_that_returns_no_model_is_refused():
    with pytest.raises(TypeError, match="encoder for 'x' must .* `?keras.Model`?.*Received"):
        encoders.get(lambda name, modality: 3, "x", SPECS["vector"])


def test_a_modality_of_a_new_kind_takes_a_callable():
    """A user's own `Modality` has no table of encoders; a callable or model needs none."""

    class Pressure(mk.Vector):
        """A kind that mmkeras does not know."""

        kind = "pressure"

    modality = Pressure(size=7, normalize=False)
    model = custom()
    assert encoders.get(model, "x", modality) is model
    assert encoders.get(lambda name, modality: model, "x", modality) is model
    with pytest.raises(ValueError, match="'pressure'"):
        encoders.get(None, "x", modality)
