"""Interrupts a training at several places and starts it again; run as a file.

python interrupted.py OUT.json: per case, what differs from a run that was never interrupted. In a
process of its own, because deterministic ops cannot be switched off again.
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[2]


class Interrupt(keras.callbacks.Callback):
    """Ends the process' training at a place, as a kill would."""

    def __init__(self, hook, at):
        super().__init__()
        self.hook, self.at, self.seen = hook, at, 0

    def _count(self, hook):
        self.seen += hook == self.hook
        if hook == self.hook and self.seen == self.at:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self._count("step")

    def on_test_batch_end(self, batch, logs=None):
        self._count("validation")

    def on_epoch_end(self, epoch, logs=None):
        self._count("epoch")


def main(out):
    from tests.training import killed

    folder = Path(tempfile.mkdtemp())
    never = Interrupt("never", 0)
    model, history = killed.train(folder / "whole", [never])
    weights, log = killed.state(model), (folder / "whole/log.csv").read_text()
    found = {}
    # With a checkpoint every 3 steps: before the first one, inside an epoch, in its
    # validation, and at its end, before that checkpoint is written.
    for hook, at in (("step", 2), ("step", 10), ("validation", 3), ("epoch", 2)):
        run, interrupted = folder / f"{hook}{at}", False
        try:
            killed.train(run, [Interrupt(hook, at)])
        except KeyboardInterrupt:
            interrupted = True
        model, again = killed.train(run, [never])
        now = killed.state(model)
        found[f"{hook} {at}"] = {
            "interrupted": interrupted,
            "different": [n for n, w in weights.items() if not np.array_equal(w, now[n])],
            "same_history": again.history == history.history,
            "same_log": (run / "log.csv").read_text() == log,
            "left": (run / "checkpoints").exists(),
        }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1])
