"""Series as plots and tables as text in TensorBoard."""

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmkeras as mk
from mmkeras.training.plots import COLOURS, line_plot
from mmkeras.training.samples import Samples


def test_a_plot_has_a_line_per_channel_where_steps_are_real():
    values = np.stack([np.linspace(0, 1, 9), np.full(9, 0.5)], axis=1)
    mask = np.ones(9, bool)
    picture = line_plot(values, mask, height=21, width=90)
    assert picture.shape == (21, 90, 3) and picture.dtype == np.uint8
    first, second = ((picture == colour).all(axis=2) for colour in COLOURS[:2])
    assert second[10].all()  # the flat channel lies in the middle and is drawn last
    rows = [np.flatnonzero(first[:, c]).mean() for c in (1, 20, 70, 88)]
    assert rows == sorted(rows, reverse=True) and rows[0] > 18 and rows[-1] < 2
    mask[4:6] = False
    gap = line_plot(values, mask, height=21, width=90)
    drawn = (gap != 255).any(axis=(0, 2))
    assert not drawn[35:67].any() and drawn[:30].all() and drawn[70:].all()
    assert (line_plot(values, np.zeros(9, bool)) == 255).all()
    assert np.isfinite(line_plot(np.full((9, 1), 3.0), np.ones(9, bool))).all()


def test_samples_of_tables_and_series(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        "height": [1.5, None, 2.5],
        "colour": ["red", "blue", None],
        "motion": [rng.standard_normal((n, 2)) for n in (8, 5, 8)],
        "label": ["a", "b", "a"],
    }
    specs = {
        "facts": mk.Table(numeric=("height",), categorical=("colour",)),
        "motion": mk.Series(steps=8, channels=2),
    }
    held = {**rows, "colour": ["green", "blue", None], "height": [1.5, None, None]}
    data = mk.data.table(rows, specs, "label", valid=held)
    heads = {"label": mk.heads.Classifier(data.classes)}
    keras.utils.set_random_seed(0)
    model = mk.assemble(data.modalities, heads=heads, hidden_dim=8)
    samples = Samples(str(tmp_path), data, count=3)
    samples.set_model(model)
    samples.on_epoch_end(0)
    samples.on_train_end()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    plots = tf.make_ndarray(events.Tensors("samples/motion")[0].tensor_proto)
    assert len(plots) == 2 + 3 and tf.io.decode_png(plots[2]).shape == (96, 256, 3)
    text = tf.make_ndarray(events.Tensors("samples/table")[0].tensor_proto).item().decode()
    assert "height=1.5, colour=(unknown)" in text and "| colour=blue |" in text
    assert "(absent)" in text and "5 of 8 steps" in text
