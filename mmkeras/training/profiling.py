"""Where the time of a training goes: step, data wait, rate, utilisation, memory, compile time."""

import math
import resource
import statistics
import time
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.training.cost import forward_flops

UNITS = {
    "step_seconds": "median time from the end of one step to the end of the next",
    "data_wait": "share of that time in which the step waited for its batch",
    "samples_per_second": "rows of all replicas over the time of the epoch's steps",
    "flops_utilisation": "3 x FLOPs of the forward pass over what a large matmul reaches here",
    "compile_seconds": "first step less the median: tracing, XLA, first allocations",
    "peak_memory_mb": "largest resident size of the process (of GPU 0, where there is one)",
}


class Profile(keras.callbacks.Callback):
    """Measures every epoch of a `fit` of `mmkeras.Model`, and prints a table at its end.

    The figures, as scalars `profile/<name>` in TensorBoard and in `epochs`:

    - `step_seconds`: median over the steps of the epoch but the first, callbacks included.
    - `data_wait`: the time between asking the iterator for a batch and having it, measured
      inside the compiled step; near 0, the pipeline keeps up; near 1, it is all there is. NaN
      with deterministic ops, under which TensorFlow does not tell the time.
    - `samples_per_second`: rows that came out of the iterator, over the time of the same steps.
    - `flops_utilisation`: floating-point operations of a training step, taken as three times
      those that TensorFlow counts in the graph of a forward pass of the last batch's size (loops,
      as in an LSTM, count once; sequences at the declared length, buckets or not), over
      `step_seconds` and `peak_flops`.
    - `compile_seconds`: first step of this `fit` less the median.
    - `peak_memory_mb`: see `UNITS`.

    Nothing here enters the logs of Keras, so that a resumed run logs the same lines.

    Args:
        log_dir: folder of the event file, e.g. `run_dir / "tensorboard" / "profile"`; None for
            the table alone.
        trace: first and last step, counted from 0 in this `fit`, of which TensorBoard's Profile
            tab gets a trace (needs `tensorboard-plugin-profile` to be looked at).
        peak_flops: floating-point operations per second of all replicas together; measured by a
            matrix product in the model's precision when None.

    Attributes:
        epochs: one dict of figures per epoch.
    """

    def __init__(
        self,
        log_dir: Any = None,
        *,
        trace: tuple[int, int] | None = None,
        peak_flops: float | None = None,
    ) -> None:
        """Stores the arguments."""
        super().__init__()
        if trace is not None and (log_dir is None or not 0 <= trace[0] <= trace[1]):
            raise ValueError(
                "`trace` must be (first, last) step with first <= last, and needs a `log_dir`. "
                f"Received: trace={trace}, log_dir={log_dir!r}."
            )
        self.log_dir = None if log_dir is None else str(log_dir)
        self.trace = trace
        self.peak_flops = peak_flops and checks.real("peak_flops", peak_flops)
        self.epochs: list[dict[str, float]] = []
        with tf.device("CPU:0"):
            self.waited = tf.Variable(0.0, trainable=False, dtype=tf.float64)
            self.rows = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._operations = self._writer = self._run = None

    def next(self, iterator: Any) -> Any:
        """Takes a batch from the iterator of a step, and measures how long that took."""
        timed = _has_timestamp()
        start = tf.timestamp() if timed else tf.constant(0.0, tf.float64)
        with tf.control_dependencies([start]):
            batch = next(iterator)
        locals_ = self.model.distribute_strategy.experimental_local_results
        parts = [part for leaf in tf.nest.flatten(batch) for part in locals_(leaf)]
        with tf.control_dependencies(parts):
            self.waited.assign_add(tf.timestamp() - start if timed else math.nan)
        first = tf.nest.flatten(batch)[0]
        self.rows.assign_add(sum(tf.shape(p, tf.int64)[0] for p in locals_(first)))
        return batch

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts."""
        # Held apart from the plain attributes, which `Resume` saves: clocks start anew.
        self._run = SimpleNamespace(step=0, tracing=False, first=None, ends=[], start=(0.0, 0))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock of an epoch."""
        self._run.ends = [time.perf_counter()]

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Starts the trace at its first step."""
        if self.trace and self._run.step == self.trace[0]:
            tf.profiler.experimental.start(self.log_dir)
            self._run.tracing = True

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Notes the end of a step."""
        ends = self._run.ends
        ends.append(time.perf_counter())
        if len(ends) == 2:  # the clock of rate and wait starts after the first step
            self._run.start = float(self.waited), int(self.rows)
            self._run.first = self._run.first or ends[1] - ends[0]
        if self._run.tracing and self._run.step == self.trace[1]:
            self._stop_trace()
        self._run.step += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the epoch's figures."""
        ends, (waited, taken) = self._run.ends, self._run.start
        if len(ends) < 3:
            return  # no step but the first: nothing to tell a step from a compilation by
        seconds = ends[-1] - ends[1]
        step = statistics.median(b - a for a, b in zip(ends[1:], ends[2:], strict=False))
        rows = int(self.rows) - taken
        found = {
            "step_seconds": step,
            "data_wait": (float(self.waited) - waited) / seconds,
            "samples_per_second": rows / seconds,
            "flops_utilisation": self._flops(round(rows / (len(ends) - 2))) / step / self._peak(),
            "compile_seconds": max(self._run.first - step, 0.0),
            "peak_memory_mb": _peak_memory() / 1e6,
        }
        self.epochs.append({"epoch": epoch, **found})
        if self.log_dir is None:
            return
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(step=epoch):
            for name, value in found.items():
                tf.summary.scalar(f"profile/{name}", value, description=UNITS[name])
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prints the table."""
        if self._run.tracing:
            self._stop_trace()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self.epochs and self.params.get("verbose", 1) != 0:
            print(self.summary())

    def summary(self) -> str:
        """Returns the table: one line per figure with the first, the median and the last epoch."""
        lines = ["| | first epoch | median | last epoch | |", "|---|---|---|---|---|"]
        for name, meaning in UNITS.items():
            values = [epoch[name] for epoch in self.epochs]
            shown = (values[0], statistics.median(values), values[-1])
            lines.append(f"| {name} | {' | '.join(f'{v:.4g}' for v in shown)} | {meaning} |")
        return "\n".join(lines)

    def _stop_trace(self) -> None:
        tf.profiler.experimental.stop()
        self._run.tracing = False

    def _flops(self, rows: int) -> float:
        """Floating-point operations of a training step on `rows` rows."""
        if self._operations is None:
            self._operations = forward_flops(self.model, rows)
        return 3.0 * self._operations

    def _peak(self) -> float:
        if self.peak_flops is None:
            # Logical CPUs share the same cores.
            kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
            replicas = self.model.distribute_strategy.num_replicas_in_sync
            count = replicas if kind == "GPU" else 1
            self.peak_flops = count * matmul_flops(self.model.compute_dtype, f"{kind}:0")
        return self.peak_flops


def matmul_flops(dtype: str = "float32", device: str = "CPU:0", size: int | None = None) -> float:
    """Returns the floating-point operations per second of square matrix products on a device.

    The best of five; 1024 x 1024 on a CPU, 8192 x 8192 on a GPU.
    """
    size = size or (8192 if "GPU" in device else 1024)
    with tf.device(device):
        a = tf.ones((size, size), dtype)
        product = tf.function(lambda a: tf.reduce_sum(tf.matmul(a, a)), autograph=False)
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            float(product(a))
            seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds[1:])


def _has_timestamp() -> bool:
    """Whether TensorFlow tells the time in a graph: not when ops are to be deterministic."""
    try:
        with tf.init_scope():
            tf.timestamp()
    except tf.errors.OpError:
        return False
    return True


def _peak_memory() -> float:
    """Bytes."""
    if tf.config.list_logical_devices("GPU"):
        return float(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
