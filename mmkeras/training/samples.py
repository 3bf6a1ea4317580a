"""A few samples of every modality in TensorBoard each epoch, with prediction and truth."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.heads import Classifier, MultiLabel, head_of
from mmkeras.training.plots import line_plot


def strip(modality: Any, value: Any) -> Any:
    """Pictures (B, H, W, C) of a modality that has any: frames and items side by side, or None."""
    if modality.item.kind not in ("image", "video"):
        return None
    while len(value.shape) > 4:  # (B, ..., N, H, W, C) -> (B, ..., H, N * W, C)
        *before, count, height, width, channels = value.shape
        value = tf.reshape(
            tf.stack(tf.unstack(value, axis=-4), -3), (*before, height, -1, channels)
        )
    return value


class Samples(keras.callbacks.Callback):
    """Writes images, texts, sounds, series and numbers beside what the model says of them.

    Tags: `samples/<modality>` with the pictures (of videos and of several, side by side), sounds or
    plots of series, in the order of the rows, and `samples/table`, one line per row: texts, numbers
    and cells, whether each modality is present, truth and prediction per head.

    Args:
        log_dir: folder of the event file.
        data: what `mk.data.table` returned.
        count: rows, spread over the validation split (the training split without one).
    """

    def __init__(self, log_dir: str, data: Any, count: int = 6) -> None:
        """Reads the rows once."""
        super().__init__()
        self.data = data
        self.split = "valid" if "valid" in data.splits else "train"
        total = len(data.splits[self.split])
        rows = np.unique(np.linspace(0, total - 1, count).astype(int))
        batches = data.take(self.split, rows).batches(self.split, len(rows))
        self.x, self.y = next(iter(batches)) if data.targets else (next(iter(batches))[0], {})
        self.count = len(rows)
        self.log_dir = log_dir
        self.writer = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Predicts the rows and writes them."""
        if self.writer is None:
            self.writer = tf.summary.create_file_writer(self.log_dir)
        # Called by itself: only the chief of several workers is here, and predict waits for all.
        outputs = keras.tree.map_structure(np.asarray, self.model(self.x, training=False))
        with self.writer.as_default(step=epoch):
            for name, modality in self.data.modalities.items():
                self._media(name, modality)
            tf.summary.text("samples/table", self._table(outputs))
        self.writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the event file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _media(self, name: str, modality: Any) -> None:
        value = self.x[name]
        pictures = strip(modality, value)
        if pictures is not None:
            tf.summary.image(f"samples/{name}", pictures, max_outputs=self.count)
        elif modality.kind == "audio":
            tf.summary.audio(
                f"samples/{name}", value[:, :, None], modality.rate_hz, max_outputs=self.count
            )
        elif modality.kind in ("series", "vector") and modality.mask_shape:
            masks = self.x[f"{name}_mask"].numpy()
            plots = [line_plot(v, m) for v, m in zip(value.numpy(), masks, strict=True)]
            tf.summary.image(f"samples/{name}", np.stack(plots), max_outputs=self.count)

    def _table(self, outputs: dict) -> str:
        """A Markdown table, one line per row."""
        heads = list(outputs)
        columns = [*self.data.modalities, *(f"{h}: truth | {h}: predicted" for h in heads)]
        always = np.ones(self.count, bool)
        lines = ["| row | " + " | ".join(columns) + " |"]
        lines.append("|" + " --- |" * (1 + len(self.data.modalities) + 2 * len(heads)))
        for row in range(self.count):
            cells = [self._cell(name, row) for name in self.data.modalities]
            for head in heads:
                known = head in self.y and bool(self.y.get(f"{head}_mask", always)[row])
                truth = self._said(head, self.y[head][row].numpy(), truth=True) if known else ""
                cells += [truth, self._said(head, outputs[head][row], truth=False)]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def _cell(self, name: str, row: int) -> str:
        modality, value = self.data.modalities[name], self.x[name][row].numpy()
        mask = self.x[f"{name}_mask"][row].numpy()
        if not mask.any():
            return "(absent)"
        if modality.item is not modality:
            return f"{sum(m.any() for m in mask)} of {modality.count}"
        if modality.kind == "video":
            return f"{mask.sum()} frames"
        if modality.kind == "text":
            return " ".join(modality.vocabulary[i] for i in value[mask])
        if modality.kind == "table":
            return ", ".join(_cells(modality, value, mask))
        if modality.kind in ("series", "vector") and modality.mask_shape:
            return f"{np.count_nonzero(mask)} of {len(mask)} steps"
        if modality.kind == "vector":
            return ", ".join(f"{v:.2f}" for v in value[:6])
        return "present"

    def _said(self, head: str, value: np.ndarray, truth: bool) -> str:
        layer = head_of(self.model, head)
        if isinstance(layer, Classifier):
            if truth:
                return layer.classes[int(value)]
            probability = np.exp(value - value.max()) / np.exp(value - value.max()).sum()
            best = int(value.argmax())
            return f"{layer.classes[best]} ({probability[best]:.2f})"
        if isinstance(layer, MultiLabel):
            chosen = value > (0.5 if truth else 0.0)
            return ", ".join(c for c, yes in zip(layer.classes, chosen, strict=True) if yes) or "-"
        return ", ".join(f"{v:.3g}" for v in np.atleast_1d(value))


def _cells(modality: Any, value: np.ndarray, mask: np.ndarray) -> Iterator[str]:
    """Yields "name=value" of the cells of a table row that are there, in its own units."""
    split = len(modality.numeric)
    for place, name in enumerate(modality.columns):
        if not mask[place]:
            continue
        if place < split:
            yield f"{name}={value[place] * modality.scale[place] + modality.mean[place]:.4g}"
        else:
            words = ("(unknown)", *modality.vocabularies[place - split])
            yield f"{name}={words[int(value[place])]}"
