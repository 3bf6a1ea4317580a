"""The model class: steps against NumPy-simple references, compile options, save and load."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import jit, private
from tests import session_loader

CLASSES = ("a", "b", "c")
SPECS = {
    "words": mk.Text(length=5, vocabulary=("[PAD]", "[UNK]", *"abcdefgh")),
    "numbers": mk.Vector(size=3, normalize=False),
}


def batch(rng, rows=12):
    mask = rng.random((rows, 5)) < 0.7
    x = {
        "words": rng.integers(1, 4, (rows, 5)).astype("int32"),
        "words_mask": mask,
        "numbers": rng.normal(size=(rows, 3)).astype("float32"),
        "numbers_mask": rng.random(rows) < 0.8,
    }
    return x, {"label": rng.integers(0, 3, rows).astype("int32")}


def build(**kwargs):
    model = mk.assemble(
        SPECS, fusion="concatenation", heads={"label": mk.heads.Classifier(CLASSES)}, hidden_dim=8
    )
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "jit": False, **kwargs})
    return model


def dataset(x, y, *more, size=4):
    return tf.data.Dataset.from_tensor_slices((x, y, *more)).batch(size)


def test_a_step_is_plain_gradient_descent_on_the_mean_loss(rng):
    x, y = batch(rng)
    model = build()
    before = {v.path: v.numpy() for v in model.trainable_variables}
    with tf.GradientTape() as tape:
        logits = model(x, training=True)["label"]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y["label"], logits))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    history = model.fit(dataset(x, y, size=12), epochs=1, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-6)
    for v, g in zip(model.trainable_variables, gradients, strict=True):
        expected = before[v.path] - 0.1 * tf.convert_to_tensor(g).numpy()
        np.testing.assert_allclose(v.numpy(), expected, atol=1e-6, err_msg=v.path)


def test_repeated_tokens_are_summed_before_adam_squares_them(rng):
    # One step of Adam moves every touched weight by the rate, whatever the gradient's size:
    # m / sqrt(v) = g / |g|, which holds only when a token's rows were summed first.
    x, y = batch(rng)
    x["words"][:] = 2
    model = build(optimizer=keras.optimizers.Adam(0.01, epsilon=1e-12))
    table = next(v for v in model.variables if v.path.endswith("words_embedding/embeddings"))
    before = table.numpy()
    model.fit(dataset(x, y, size=12), epochs=1, verbose=0)
    moved = np.abs(table.numpy() - before)
    np.testing.assert_allclose(moved[2], 0.01, rtol=1e-3)
    assert (moved[3:] == 0).all()


def test_clip_norm_bounds_the_whole_gradient(rng):
    x, y = batch(rng)
    free, clipped = build(), build(clip_norm=1e-3)
    clipped.set_weights(free.get_weights())
    start = free.get_weights()
    for model in (free, clipped):
        model.fit(dataset(x, y, size=12), epochs=1, verbose=0)

    def step(model):
        parts = [(a - b).ravel() for a, b in zip(model.get_weights(), start, strict=True)]
        return np.concatenate(parts)

    assert np.linalg.norm(step(clipped)) == pytest.approx(0.1 * 1e-3, rel=1e-3)
    cosine = step(free) @ step(clipped) / np.linalg.norm(step(free)) / np.linalg.norm(step(clipped))
    assert cosine == pytest.approx(1.0, abs=1e-4)


def test_xla_gives_the_same_steps_and_is_in_the_graph(rng):
    x, y = batch(rng)
    plain, compiled = build(), build(jit=True)
    compiled.set_weights(plain.get_weights())
    for model in (plain, compiled):
        model.fit(dataset(x, y), epochs=2, verbose=0)
    for a, b in zip(plain.get_weights(), compiled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)

    def must_compile(model):
        function = model.make_train_function()
        iterator = iter(dataset(x, y))
        graph = function.get_concrete_function(iterator).graph.as_graph_def()
        return any(
            "_XlaMustCompile" in node.attr and node.attr["_XlaMustCompile"].b
            for node in [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        )

    assert must_compile(compiled) and not must_compile(plain)


def test_jit_auto_is_told_and_not_measured_in_short_runs(rng, capsys):
    x, y = batch(rng)
    model = build(jit="auto")
    assert model.jit == "auto"
    model.fit(dataset(x, y), epochs=1)
    assert model.jit is False and "fewer than 200 steps" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`jit` must be True, False or 'auto'.*'always'"):
        build(jit="always")


@pytest.mark.parametrize("slow", [False, True])
def test_jit_auto_takes_the_faster_way_and_leaves_no_trace(rng, monkeypatch, capsys, slow):
    x, y = batch(rng)
    real, calls = jit._seconds, itertools.count()

    def seconds(run, example):  # without and with XLA, in turns
        real(run, example)
        return 2.0 if next(calls) % 2 == int(slow) else 1.0

    monkeypatch.setattr(jit, "MIN_STEPS", 1)
    monkeypatch.setattr(jit, "_seconds", seconds)
    measured, pinned = build(jit="auto"), build(jit=not slow)
    pinned.set_weights(measured.get_weights())
    for model in (measured, pinned):
        model.fit(dataset(x, y), epochs=2)
    assert measured.jit is (not slow)
    said = capsys.readouterr().err
    assert f"takes jit={not slow}" in said and "ms without" in said
    for a, b in zip(measured.get_weights(), pinned.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluate_counts_every_row_of_a_partial_batch(rng):
    x, y = batch(rng, rows=11)
    model = build()
    measured = model.evaluate(dataset(x, y), verbose=0, return_dict=True)
    logits = model.predict(dataset(x, y), verbose=0)["label"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert measured["loss"] == pytest.approx(-log_p[np.arange(11), y["label"]].mean(), rel=1e-5)
    assert measured["accuracy"] == pytest.approx((logits.argmax(axis=1) == y["label"]).mean())


def test_sample_weights_scale_the_rows(rng):
    x, y = batch(rng)
    weights = rng.random(12).astype("float32")
    model = build()
    logits = model.predict(dataset(x, y), verbose=0)["label"]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y["label"], logits).numpy()
    data = dataset(x, y, {"label": weights}, size=12)
    history = model.fit(data, epochs=1, verbose=0).history
    assert history["loss"][0] == pytest.approx(float((weights * losses).mean()), rel=1e-5)


def test_save_and_load_keep_weights_compile_options_and_optimizer(rng, tmp_path):
    x, y = batch(rng)
    model = build(optimizer=keras.optimizers.AdamW(0.01), jit=True, clip_norm=0.7)
    model.fit(dataset(x, y), epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is mk.Model and loaded.jit is True
    assert loaded.get_compile_config()["clip_norm"] == 0.7
    np.testing.assert_array_equal(
        loaded.predict(dataset(x, y), verbose=0)["label"],
        model.predict(dataset(x, y), verbose=0)["label"],
    )
    for m in (model, loaded):
        m.fit(dataset(x, y), epochs=1, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_trace_per_shape(rng):
    x, y = batch(rng)
    model = build()
    model.fit(dataset(x, y), validation_data=dataset(x, y), epochs=3, verbose=0)
    assert model.train_function.experimental_get_tracing_count() == 1
    assert model.test_function.experimental_get_tracing_count() == 1


def test_train_and_test_on_batch_take_the_same_step_without_retracing(rng):
    x, y = batch(rng)
    whole, single = build(), build()
    single.set_weights(whole.get_weights())
    expected = whole.fit(dataset(x, y, size=12), epochs=1, verbose=0).history["loss"][0]
    assert single.test_on_batch(x, y, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-6)
    assert single.train_on_batch(x, y, return_dict=True)["loss"] == pytest.approx(
        expected, rel=1e-6
    )
    for a, b in zip(whole.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    later = [single.train_on_batch(x, y, return_dict=True)["loss"] for _ in range(3)]
    assert later[2] < later[0] < expected


def test_two_heads_log_their_own_loss(rng):
    x, y = batch(rng)
    heads = {"label": mk.heads.Classifier(CLASSES), "size": mk.heads.Regressor()}
    model = mk.assemble(SPECS, heads=heads, hidden_dim=8)
    model.compile("adamw", jit=False)
    y = {**y, "size": rng.normal(size=12).astype("float32")}
    history = model.fit(dataset(x, y), epochs=1, verbose=0).history
    assert {"loss", "label_loss", "size_loss", "label_accuracy", "size_mae"} <= set(history)
    assert history["loss"][0] == pytest.approx(
        history["label_loss"][0] + history["size_loss"][0], rel=1e-5
    )


def test_run_eagerly_takes_the_same_step(rng):
    x, y = batch(rng)
    graph, eager = build(), build(run_eagerly=True)
    eager.set_weights(graph.get_weights())
    for model in (graph, eager):
        model.fit(dataset(x, y), epochs=1, verbose=0)
    for a, b in zip(graph.get_weights(), eager.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_head_of_ones_own_is_logged_and_exported(rng, tmp_path):
    x, y = batch(rng)
    heads = {"label": lambda fused: keras.layers.Dense(3, name="mine")(fused["pooled"])}
    model = mk.assemble(SPECS, heads=heads, fusion="concatenation", hidden_dim=8)
    model.compile("sgd", {"label": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    model.fit(dataset(x, y), epochs=1, verbose=0)
    path = mk.export.saved_model(model, SPECS, tmp_path / "1")
    assert set(session_loader.ask(path, {})) == {"label", "bad_input"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("numbers_mask"), "must hold 'numbers_mask'.*false mask"),
        (
            lambda x: x.update(words_mask=x["words_mask"][:, :4]),
            r"mask 'words_mask' must have the shape \(B, 5\).*\(B, 4\).*data.modalities",
        ),
        (
            lambda x: x.update(numbers=x["numbers"][:, :2]),
            r"value 'numbers' must have the shape \(B, 3\).*\(B, 2\)",
        ),
    ],
)
def test_a_wrong_batch_is_refused_before_training(rng, change, message):
    x, y = batch(rng)
    change(x)
    with pytest.raises(ValueError, match=message):
        build().fit(dataset(x, y), epochs=1, verbose=0)


def test_compile_refuses_what_would_be_wrong():
    with pytest.raises(ValueError, match="use `jit=` instead of `jit_compile=`"):
        build(jit_compile=True)
    with pytest.raises(ValueError, match="`steps_per_execution` must be 1.*Received: 4"):
        build(steps_per_execution=4)
    for norm in (0, -1.0):
        with pytest.raises(ValueError, match="`clip_norm` must"):
            build(clip_norm=norm)
    inputs = keras.Input((2,), name="x")
    model = mk.Model({"x": inputs}, {"y": keras.layers.Dense(1, name="y")(inputs)})
    with pytest.raises(ValueError, match=r"a loss for every output.*\['y'\].*loss="):
        model.compile("sgd")


def test_what_replicas_read_from_is_not_autotuned(rng, monkeypatch):
    def made(*args):
        return tf.data.Dataset.range(3)

    monkeypatch.setattr(private.multi_device_iterator_ops, "_create_device_dataset", made)
    seen = []

    class Look(keras.callbacks.Callback):
        def look(self, *_):
            seen.append(private.multi_device_iterator_ops._create_device_dataset().options())

        on_train_begin = on_test_begin = on_predict_begin = look

    model, data = build(), dataset(*batch(rng))
    model.fit(data, verbose=0, callbacks=[Look()])
    model.evaluate(data, verbose=0, callbacks=[Look()])
    model.predict(data, verbose=0, callbacks=[Look()])
    assert [options.autotune.enabled for options in seen] == [False] * 3
    assert private.multi_device_iterator_ops._create_device_dataset is made


def test_a_missing_private_name_is_told(monkeypatch):
    monkeypatch.setattr(private, "NAMES", ("_no_such_name",))
    with pytest.raises(ImportError, match=r"\['_no_such_name'\].*pip install 'keras>=3.15.1"):
        private.check()
