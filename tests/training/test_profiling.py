"""The figures of `Profile`: counts and formulas on a clock of ticks, never how fast it is."""

import itertools
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import profiling
from mmkeras.training.cost import forward_flops

SPECS = {"numbers": mk.Vector(size=3, normalize=False)}


def build():
    model = mk.assemble(
        SPECS,
        fusion="concatenation",
        heads={"label": mk.heads.Classifier(("a", "b"))},
        hidden_dim=8,
    )
    model.compile("sgd", jit=False)
    return model


def rows(count=18):
    x = {
        "numbers": np.ones((count, 3), "float32"),
        "numbers_mask": np.arange(count) % 3 > 0,
    }
    return tf.data.Dataset.from_tensor_slices((x, {"label": np.arange(count) % 2})).batch(4)


def test_figures_on_a_clock_of_ticks(monkeypatch, tmp_path, capsys):
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(profiling, "time", clock)
    profile = mk.training.Profile(tmp_path, peak_flops=100.0)
    model = build()
    model.fit(rows(), epochs=2, verbose=0, callbacks=[profile])
    forward = forward_flops(model, 4)
    for epoch, found in enumerate(profile.epochs):
        assert found["epoch"] == epoch
        # 18 rows in batches of 4, 4, 4, 4, 2; one tick per step, the first step does not count.
        assert found["step_seconds"] == 1.0
        assert found["samples_per_second"] == 14 / 4
        assert found["compile_seconds"] == 0.0
        assert found["flops_utilisation"] == pytest.approx(3 * forward / 100)
        assert found["data_wait"] >= 0.0
        assert found["peak_memory_mb"] > 10
    written = {}
    for file in tmp_path.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                written[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert written["profile/samples_per_second", 1] == 14 / 4
    assert {tag for tag, _ in written} == {f"profile/{name}" for name in profiling.UNITS}
    assert "| samples_per_second | 3.5 | 3.5 | 3.5 |" in profile.summary()
    assert "profile" not in capsys.readouterr().out


def test_waiting_for_data_is_counted_inside_the_step():
    def slow():
        for batch in rows(8):
            time.sleep(0.02)
            yield batch

    data = tf.data.Dataset.from_generator(slow, output_signature=rows(8).element_spec)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    data = data.with_options(options).apply(tf.data.experimental.assert_cardinality(2))
    profile = mk.training.Profile()
    build().fit(data, epochs=1, verbose=0, callbacks=[profile])
    assert float(profile.waited) >= 2 * 0.02 * 0.9  # sleeping is never shorter
    assert int(profile.rows) == 8


def test_a_fit_without_it_measures_nothing_again():
    model, profile = build(), mk.training.Profile()
    model.fit(rows(), verbose=0, callbacks=[profile])
    assert int(profile.rows) == 18
    model.fit(rows(), verbose=0)
    assert int(profile.rows) == 18
    model.fit(rows(), verbose=0, callbacks=[profile])
    assert int(profile.rows) == 36
    assert len(profile.epochs) == 2


def test_without_the_time_in_a_graph_the_wait_is_unknown(monkeypatch):
    # TensorFlow refuses tf.timestamp under enable_op_determinism, which cannot be undone here.
    def refuse():
        raise tf.errors.FailedPreconditionError(None, None, "determinism")

    monkeypatch.setattr(tf, "timestamp", refuse)
    profile = mk.training.Profile(peak_flops=1.0)
    build().fit(rows(), verbose=0, callbacks=[profile])
    assert np.isnan(profile.epochs[0]["data_wait"])
    assert int(profile.rows) == 18


def test_validation_is_no_step_and_logs_stay_as_they_are():
    model, profile = build(), mk.training.Profile()
    log = model.fit(rows(), validation_data=rows(), verbose=0, callbacks=[profile]).history
    assert int(profile.rows) == 18
    assert set(log) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_forward_flops_of_a_matrix_product():
    inputs = {"a": keras.Input((5,), name="a")}
    model = mk.Model(inputs, {"b": keras.layers.Dense(7, use_bias=False, name="b")(inputs["a"])})
    assert forward_flops(model, 3) == 2 * 3 * 5 * 7


def test_a_trace_of_chosen_steps(tmp_path):
    profile = mk.training.Profile(tmp_path, trace=(1, 2))
    build().fit(rows(), epochs=1, verbose=0, callbacks=[profile])
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_a_trace_needs_a_folder():
    with pytest.raises(ValueError, match="needs a `log_dir`.*log_dir=None"):
        mk.training.Profile(trace=(1, 2))
