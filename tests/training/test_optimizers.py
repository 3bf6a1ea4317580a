"""Optimizers: Keras' own where nothing is set, NumPy AdamW with rates, decay, EMA, saving."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import optimizers

PATHS = [
    "words_embedding/embeddings",
    "words_positions/table",
    "words_block0/query/kernel",
    "words_block1/norm/gamma",
    "words_norm/gamma",
    "image_conv0/kernel",
    "fusion/block0/query/kernel",
    "label/dense/bias",
]


def variables(rng, shapes=None):
    """Weights as a model has them, by path."""
    made = []
    for i, path in enumerate(PATHS):
        *layers, name = path.split("/")
        shape = (7,) if name in ("gamma", "bias") else (5, 7)
        value = rng.normal(size=shape).astype("float32")
        with contextlib.ExitStack() as stack:
            for layer in layers:
                stack.enter_context(keras.name_scope(layer))
            made.append(keras.Variable(value, name=name))
        assert made[i].path == path
    return made


def run(optimizer, rng, steps=4):
    weights = variables(rng)
    gradients = [[rng.normal(size=v.shape).astype("float32") for v in weights] for _ in range(4)]
    before = [v.numpy() for v in weights]
    optimizer.build(weights)
    for gradient in gradients[:steps]:
        optimizer.apply([tf.constant(g) for g in gradient], weights)
    return before, gradients[:steps], [v.numpy() for v in weights]


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_without_options_it_is_the_optimizer_of_keras(name, weight_decay):
    extra = {} if weight_decay is None else {"weight_decay": weight_decay}
    cls = next(c for c in optimizers.OPTIMIZERS[name].__mro__ if c.__module__.startswith("keras."))
    ours = mk.training.optimizer(name, 0.01, no_decay=(), **extra)
    theirs = cls(0.01, **extra)
    _, _, expected = run(theirs, np.random.default_rng(1))
    _, _, got = run(ours, np.random.default_rng(1))
    for path, g, e in zip(PATHS, got, expected, strict=True):
        np.testing.assert_allclose(g, e, atol=1e-6, err_msg=path)


def numpy_adamw(w, gradients, rate, decay):
    m = v = np.zeros_like(w, "float64")
    for t, g in enumerate(gradients, 1):
        w = w * (1 - rate * decay)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-12)
    return w


def test_rates_and_layer_decay_are_adamw_with_a_rate_per_weight(rng):
    # Two blocks under "words": embeddings and positions d^3, block 0 d^2, block 1 d, the rest 1;
    # a block inside the fusion is not a stack of its own.
    shares = [0.5**3 * 3, 0.5**3 * 3, 0.5**2 * 3, 0.5 * 3, 3, 0.1, 1, 1]
    decayed = [False, False, True, False, False, True, True, False]
    ours = mk.training.optimizer(
        "adamw",
        0.01,
        weight_decay=0.2,
        rates={"words_*": 3.0, "words_block*": 7.0, "image_*": 0.1},
        layer_decay=0.5,
        epsilon=1e-12,
    )
    before, gradients, got = run(ours, rng)
    for i, (share, decay) in enumerate(zip(shares, decayed, strict=True)):
        expected = numpy_adamw(before[i], [g[i] for g in gradients], 0.01 * share, 0.2 * decay)
        np.testing.assert_allclose(got[i], expected, atol=2e-6, err_msg=PATHS[i])


def test_a_rate_scales_the_step_of_adam_and_not_its_gradient(rng):
    fast = mk.training.optimizer("adam", 0.01, epsilon=1e-12)
    slow = mk.training.optimizer("adam", 0.01, rates={"image_*": 0.25}, epsilon=1e-12)
    state = rng.bit_generator.state
    before, _, moved = run(fast, rng, 1)
    rng.bit_generator.state = state
    _, _, less = run(slow, rng, 1)
    image = PATHS.index("image_conv0/kernel")
    # The first step of Adam is the rate itself, whatever the gradient.
    np.testing.assert_allclose(np.abs(moved[image] - before[image]), 0.01, rtol=1e-3)
    np.testing.assert_allclose(np.abs(less[image] - before[image]), 0.0025, rtol=1e-3)


def test_no_decay_by_pattern(rng):
    ours = mk.training.optimizer("sgd", 0.1, weight_decay=0.5, no_decay=["*kernel"])
    weights = variables(rng)
    ours.build(weights)
    before = [v.numpy() for v in weights]
    ours.apply([tf.zeros(v.shape) for v in weights], weights)
    for path, old, v in zip(PATHS, before, weights, strict=True):
        factor = 1.0 if path.endswith("kernel") else 0.95
        np.testing.assert_allclose(v.numpy(), old * factor, rtol=1e-6, err_msg=path)


SPECS = {
    "words": mk.Text(length=5, vocabulary=("[PAD]", "[UNK]", *"abc")),
    "numbers": mk.Vector(size=3, normalize=False),
}


def built(optimizer, **kwargs):
    model = mk.assemble(
        SPECS,
        {
            "words": {
                "name": "transformer",
                "hidden_dim": 8,
                "num_layers": 1,
                "num_heads": 2,
                "dropout": 0.0,
            }
        },
        "concatenation",
        {"label": mk.heads.Classifier(("a", "b"))},
        hidden_dim=8,
    )
    model.compile(optimizer, jit=False, **kwargs)
    return model


def rows(rng, count=12):
    x = {
        "words": rng.integers(1, 5, (count, 5)).astype("int32"),
        "words_mask": np.ones((count, 5), bool),
        "numbers": rng.normal(size=(count, 3)).astype("float32"),
        "numbers_mask": np.ones(count, bool),
    }
    return tf.data.Dataset.from_tensor_slices((x, {"label": np.arange(count) % 2})).batch(4)


def test_no_vector_and_no_table_of_a_model_decays():
    model = built("sgd")
    decayed = {v.path for v in model.trainable_variables if optimizers.decays(v)}
    kernels = {v.path for v in model.trainable_variables if v.path.endswith("kernel")}
    assert decayed == kernels


def test_rates_decay_and_schedule_are_saved_with_the_model(rng, tmp_path):
    rate = mk.training.schedule("cosine", 0.01, steps=20, warmup_steps=2)
    options = {"rates": {"numbers_*": 0.5}, "layer_decay": 0.7, "weight_decay": 0.1, "ema": 0.9}
    model = built(mk.training.optimizer("adamw", rate, no_decay=["*bias"], **options))
    model.fit(rows(rng), epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    data = rows(rng)
    for each in (model, loaded):
        each.fit(data, epochs=1, verbose=0)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_ema_is_the_moving_average_and_is_what_fit_ends_with(rng):
    model = built(mk.training.optimizer("sgd", 0.1, ema=0.5))
    seen = []
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(model.trainable_variables[0].numpy())
    )
    model.fit(rows(rng), epochs=1, verbose=0, callbacks=[log])
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.5 * expected + 0.5 * value
    np.testing.assert_allclose(model.trainable_variables[0].numpy(), expected, atol=1e-6)


def test_swap_evaluates_the_averaged_weights(rng):
    data = rows(rng)
    model = built(mk.training.optimizer("sgd", 0.3, ema=0.9))
    history = model.fit(
        data,
        validation_data=data,
        epochs=1,
        verbose=0,
        callbacks=[keras.callbacks.SwapEMAWeights()],
    ).history
    # `fit` ends with the averaged weights, on which the validation was made.
    after = model.evaluate(data, verbose=0, return_dict=True)
    assert after["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rates": {"imgae_*": 0.1}}, "must match at least one name.*Did you mean 'image_.'"),
        ({"no_decay": ["*gama"]}, "The pattern '.gama' must.*Did you mean '.gamma'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(rng, kwargs, message):
    with pytest.raises(ValueError, match=message):
        mk.training.optimizer("adamw", **kwargs).build(variables(rng))


def test_layer_decay_without_a_stack_is_refused():
    with pytest.raises(ValueError, match="needs layers named .*model without: image_conv0, label"):
        optimizers.multipliers(["image_conv0/kernel", "label/dense/bias"], layer_decay=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mk.training.optimizer("adamx"), "Unknown optimizer 'adamx'.*Did you mean"),
        (lambda: mk.training.optimizer("sgd", -1.0), "`learning_rate` must lie between"),
        (lambda: mk.training.optimizer("sgd", rates={"a": 0}), "must be above 0.*freeze"),
        (lambda: mk.training.optimizer("sgd", ema=1.5), "`ema` must lie between"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
