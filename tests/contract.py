"""The contract of every layer, as checks that a test parametrises over.

A `Unit` says how to make a layer and what to call it with; `CHECKS` is what every layer must
pass, in order: config, shapes, names, dtypes, order, gradients, saving, fit, jit. Usage:

    UNITS = {"mean": Unit(lambda **kw: Mean(3, **kw), lambda rng: (rng.normal(size=(5, 3)),))}

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    @pytest.mark.parametrize("unit", UNITS)
    def test_contract(unit, check, tmp_path):
        check(UNITS[unit], tmp_path)
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

NAME = "unit"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class Unit:
    """One layer under the contract.

    Attributes:
        make: `(**kwargs) -> layer`, kwargs being `name` and `dtype`; no dropout.
        inputs: `(rng) -> tuple` of positional call arguments, NumPy arrays or dicts of them.
        float32: whether the outputs are float32 under every policy.
        low_precision: largest difference from float32 under the mixed policies.
    """

    make: Callable[..., keras.layers.Layer]
    inputs: Callable[[np.random.Generator], tuple]
    float32: bool = False
    low_precision: float = 0.15

    def layer(self, **kwargs: Any) -> keras.layers.Layer:
        """Returns a new layer named `unit`."""
        return self.make(name=NAME, **kwargs)

    def arguments(self, seed: int = 0) -> tuple:
        """Returns the call arguments, float64 made float32."""
        return tf.nest.map_structure(
            lambda a: a.astype("float32") if a.dtype == "float64" else a,
            self.inputs(np.random.default_rng(seed)),
        )


# Small tools ------------------------------------------------------------------------------------


def as_numpy(tree: Any) -> Any:
    """Returns the nested tensors as NumPy arrays; bfloat16 becomes float32."""

    def one(tensor: Any) -> np.ndarray:
        value = keras.ops.convert_to_numpy(tensor)
        return value.astype("float32") if value.dtype.name == "bfloat16" else value

    return tf.nest.map_structure(one, tree)


def tensors(tree: Any) -> Any:
    """Returns the nested arrays as tensors."""
    return tf.nest.map_structure(tf.convert_to_tensor, tree)


def flat(tree: Any) -> dict[str, Any]:
    """Returns `{"a/b": leaf}`, sorted by path; list and tuple positions are path parts."""
    if isinstance(tree, dict):
        parts = sorted(tree.items())
    elif isinstance(tree, list | tuple):
        parts = [(str(i), part) for i, part in enumerate(tree)]
    else:
        return {"": tree}
    return {
        f"{key}/{path}".rstrip("/"): leaf
        for key, part in parts
        for path, leaf in flat(part).items()
    }


def assert_same_bits(left: Any, right: Any) -> None:
    """Raises unless the two trees are equal to the last bit, NaN counting as a difference."""
    left, right = flat(as_numpy(left)), flat(as_numpy(right))
    assert list(left) == list(right)
    for path, value in left.items():
        different = np.sum(value != right[path])
        assert np.array_equal(value, right[path]), f"{path!r} differs in {different} entries"


def assert_close(left: Any, right: Any, tolerance: float) -> None:
    """Raises unless all floats of the two trees differ by at most `tolerance`."""
    left, right = flat(as_numpy(left)), flat(as_numpy(right))
    assert list(left) == list(right)
    for path, value in left.items():
        other = right[path]
        assert value.shape == other.shape, path
        if value.dtype == bool:
            assert np.array_equal(value, other), path
        else:
            gap = np.max(np.abs(value.astype("float64") - other.astype("float64")), initial=0.0)
            assert gap <= tolerance, f"{path!r} differs by {gap:.3g} > {tolerance:.3g}"


def is_float(tensor: Any) -> bool:
    """Whether a tensor holds floats."""
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def shapes(tree: Any) -> dict[str, tuple]:
    """Returns `{path: (shape, dtype)}`."""
    return {
        path: (tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))
        for path, leaf in flat(tree).items()
    }


def reverse_dicts(tree: Any) -> Any:
    """Returns the tree with the keys of every dict in the opposite order."""
    if isinstance(tree, dict):
        return {key: reverse_dicts(tree[key]) for key in reversed(tree)}
    return tuple(reverse_dicts(part) for part in tree) if isinstance(tree, tuple) else tree


def randomize(variables: Any, seed: int = 1, scale: float = 0.3) -> None:
    """Adds noise to every variable, so that no value is the one of a fresh layer."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        value = keras.ops.convert_to_numpy(variable)
        if is_float(variable):
            variable.assign(value + scale * rng.standard_normal(value.shape).astype("float32"))


def made_once(make: Callable) -> Callable:
    """Decorates a maker of layers or models: made once per arguments, then given as it was made.

    All its variables have their first values again, and the seeds are those of a fresh start, so
    that no test sees what another did, in whatever order they run. The arguments are hashable.
    """
    held = {}

    @functools.wraps(make)
    def given(*arguments: Any, **options: Any) -> keras.layers.Layer:
        key = (arguments, *sorted(options.items()), keras.config.dtype_policy().name)
        keras.utils.set_random_seed(0)
        if key not in held:
            made = make(*arguments, **options)
            held[key] = made, [variable.numpy() for variable in made.variables]
            keras.utils.set_random_seed(0)
        made, values = held[key]
        for variable, value in zip(made.variables, values, strict=True):
            variable.assign(value)
        return made

    return given


def weighted_sum(outputs: Any, seed: int = 2) -> Any:
    """Returns a random weighted sum of all float outputs: a loss that reaches every one."""
    rng = np.random.default_rng(seed)
    total = 0.0
    for _, output in sorted(flat(outputs).items()):
        if is_float(output):
            weights = rng.standard_normal(output.shape).astype("float32")
            total += tf.reduce_sum(tf.cast(output, "float32") * weights)
    return total


def gradients(function: Callable, variables: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns the outputs of `function` and d(weighted sum) / d(variable) by path."""
    with tf.GradientTape() as tape:
        outputs = function()
        loss = weighted_sum(outputs)
    found = tape.gradient(loss, [v.value for v in variables])
    for variable, gradient in zip(variables, found, strict=True):
        assert gradient is not None, f"{variable.path} is not connected to any output"
    return outputs, {
        v.path: as_numpy(tf.convert_to_tensor(g)) for v, g in zip(variables, found, strict=True)
    }


def assert_all_train(found: dict[str, np.ndarray]) -> None:
    """Raises unless every gradient is finite and more than rounding noise."""
    largest = max((np.max(np.abs(g)) for g in found.values()), default=0.0)
    for path, gradient in found.items():
        assert np.isfinite(gradient).all(), f"the gradient of {path} is not finite"
        size = np.max(np.abs(gradient))
        assert size > 1e-6 * largest, f"{path} never trains: its gradient is {size:.3g}"


def functional(layer: keras.layers.Layer, arguments: tuple) -> keras.Model:
    """Returns a Functional model that takes the arguments as a dict and calls the layer."""
    inputs = tuple(_inputs(part, f"in{i}") for i, part in enumerate(arguments))
    return keras.Model({f"in{i}": part for i, part in enumerate(inputs)}, layer(*inputs))


def _inputs(tree: Any, name: str) -> Any:
    if isinstance(tree, dict):
        return {key: _inputs(part, f"{name}_{key}") for key, part in tree.items()}
    dtype = keras.backend.standardize_dtype(tree.dtype)
    return keras.Input(tree.shape[1:], dtype=dtype, name=name)


def named(arguments: tuple) -> dict:
    """Returns the arguments as `functional` takes them."""
    return {f"in{i}": part for i, part in enumerate(arguments)}


# The checks -------------------------------------------------------------------------------------


def config(unit: Unit, tmp_path: Path) -> None:
    """Construct -> config -> JSON -> from_config equal; the same before and after build."""
    layer = unit.layer()
    before = layer.get_config()
    text = json.dumps(before)
    assert json.loads(text) == before
    assert type(layer).from_config(json.loads(text)).get_config() == before
    whole = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    )
    assert type(whole) is type(layer)
    assert whole.get_config() == before
    layer(*tensors(unit.arguments()))
    assert layer.get_config() == before


def output_spec(unit: Unit, tmp_path: Path) -> None:
    """The written shape rule, the symbolic call and the eager call agree."""
    arguments = unit.arguments()
    specs = tf.nest.map_structure(
        lambda a: keras.KerasTensor(a.shape, keras.backend.standardize_dtype(a.dtype)), arguments
    )
    layer = unit.layer()
    eager = shapes(layer(*tensors(arguments)))
    assert shapes(layer.compute_output_spec(*specs)) == eager
    model = functional(unit.layer(), arguments)  # unbuilt, with an unknown batch size
    free = {path: ((None, *shape[1:]), dtype) for path, (shape, dtype) in eager.items()}
    assert shapes(model.output) == free
    assert shapes(model(named(tensors(arguments)))) == eager


def names(unit: Unit, tmp_path: Path) -> None:
    """Weight paths are unique and begin with the layer's name."""
    layer = unit.layer()
    layer(*tensors(unit.arguments()))
    paths = [v.path for v in layer.weights]
    assert len(set(paths)) == len(paths), sorted(p for p in paths if paths.count(p) > 1)
    assert [p for p in paths if not p.startswith(f"{NAME}/")] == []


def dtypes(unit: Unit, tmp_path: Path) -> None:
    """Outputs in the policy's compute dtype, weights float32, numbers near those of float32."""
    arguments = tensors(unit.arguments())
    reference = unit.layer()
    expected = as_numpy(reference(*arguments))
    for policy in POLICIES:
        layer = unit.layer(dtype=policy)
        layer(*arguments)
        layer.set_weights(reference.get_weights())
        outputs = layer(*arguments)
        wanted = "float32" if unit.float32 else keras.DTypePolicy(policy).compute_dtype
        for path, (_, dtype) in shapes(outputs).items():
            assert "float" not in dtype or dtype == wanted, f"{path} is {dtype} under {policy}"
        assert {v.dtype for v in layer.trainable_variables} <= {"float32"}
        inner = {part.compute_dtype for part in layer._flatten_layers(include_self=False)}
        assert inner <= {wanted}, f"{inner} inside a layer of policy {policy}"
        assert_close(outputs, expected, 0.0 if policy == "float32" else unit.low_precision)


def dict_order(unit: Unit, tmp_path: Path) -> None:
    """The order of the caller's dicts does not matter, nor at build time."""
    arguments = tensors(unit.arguments())
    layer = unit.layer()
    outputs = layer(*arguments)
    assert_same_bits(layer(*reverse_dicts(arguments)), outputs)
    other = unit.layer()
    other(*reverse_dicts(arguments))
    assert [v.path for v in other.weights] == [v.path for v in layer.weights]
    other.set_weights(layer.get_weights())
    assert_same_bits(other(*arguments), outputs)


def gradient(unit: Unit, tmp_path: Path) -> None:
    """Every trainable weight gets a finite gradient that is not zero, its losses' included."""
    arguments = tensors(unit.arguments())
    layer = unit.layer()
    layer(*arguments)
    if not layer.trainable_variables:
        return
    randomize(layer.trainable_variables)
    _, found = gradients(lambda: (layer(*arguments), layer.losses), layer.trainable_variables)
    assert_all_train(found)


def saving(unit: Unit, tmp_path: Path) -> None:
    """`.keras` save -> load -> the same weights and output bits, with no custom code."""
    arguments = unit.arguments()
    model = functional(unit.layer(), arguments)
    randomize(model.variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_bits(loaded.get_weights(), model.get_weights())
    arguments = tensors(arguments)
    assert_same_bits(loaded(named(arguments)), model(named(arguments)))


def fit_step(unit: Unit, tmp_path: Path) -> None:
    """One `fit` step, eager and compiled by XLA, moves every weight, by the same amount."""
    arguments = unit.arguments()
    start, after = None, {}
    for jit in (False, True):
        layer = unit.layer()
        whole = functional(layer, arguments)
        if not layer.trainable_variables:
            return
        if start is None:
            randomize(layer.variables)
            start = layer.get_weights()
        layer.set_weights(start)
        before = [v.numpy() for v in layer.trainable_variables]
        outputs = [t for _, t in sorted(flat(whole.output).items()) if is_float(t)]
        model = keras.Model(whole.input, outputs)
        losses = ["mse"] * len(outputs)
        model.compile(keras.optimizers.SGD(0.1), losses, jit_compile=jit, run_eagerly=not jit)
        rng = np.random.default_rng(3)
        batch = len(tf.nest.flatten(arguments)[0])
        truth = [rng.standard_normal((batch, *t.shape[1:])).astype("float32") for t in outputs]
        build_for_fit(model, truth)
        data = tf.data.Dataset.from_tensors((named(arguments), tuple(truth)))
        history = model.fit(data, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        after[jit] = layer.get_weights()
        for variable, old in zip(layer.trainable_variables, before, strict=True):
            assert not np.array_equal(old, variable.numpy()), f"{variable.path} did not move"
    assert_close(after[True], after[False], 1e-5)


def build_for_fit(model: keras.Model, truth: list) -> None:
    """Makes the variables of loss and optimizer; made inside `fit`, its step is traced twice."""
    model.compute_loss(y=truth, y_pred=truth)
    model.optimizer.build(model.trainable_variables)


def jit(unit: Unit, tmp_path: Path) -> tuple[keras.layers.Layer, Callable]:
    """The forward pass compiled by XLA agrees with the eager one; returns layer and compiled."""
    arguments = tensors(unit.arguments())
    layer = unit.layer()
    eager = layer(*arguments)
    compiled = tf.function(lambda *a: layer(*a), jit_compile=True, autograph=False)
    assert_close(compiled(*arguments), eager, 1e-5)
    return layer, compiled


CHECKS = (config, output_spec, names, dtypes, dict_order, gradient, saving, fit_step, jit)
