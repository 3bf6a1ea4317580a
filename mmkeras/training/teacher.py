"""What a teacher says, as further truth of a dataset."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core.identifiers import nearest


def teach(
    dataset: tf.data.Dataset, teacher: keras.Model, outputs: Mapping[str, str | None]
) -> tf.data.Dataset:
    """Returns the dataset with outputs of a teacher in the truth of every batch.

    The teacher sees the batch as the student does, augmented alike, and is not trained. It works
    in the pipeline, on the CPU; `steps`, `stream` and `part` of the dataset are kept.

        data = mk.training.teach(data.train(64), teacher, {"taught": "answer"})

    Args:
        dataset: of `(x, y)` or `(x, y, weights)`, with dicts; it holds the teacher's inputs.
        teacher: a built model.
        outputs: name in the truth, that of an objective, -> output of the teacher; None where it
            has one output that is no dict.

    Raises:
        ValueError: an unknown output, or a name that the truth has already.
    """
    known = list(teacher.output) if isinstance(teacher.output, Mapping) else [None]
    truth = dataset.element_spec[1] if len(dataset.element_spec) > 1 else {}
    for name, output in outputs.items():
        if output not in known:
            raise ValueError(
                f"The teacher has no output {output!r}. "
                f"{nearest(str(output), [str(one) for one in known])}"
            )
        if name in truth:
            raise ValueError(f"The truth has {name!r} already. Choose the name of an objective.")

    def add(x: Any, y: Any = None, *weights: Any) -> tuple:
        said = teacher(x, training=False)
        more = {n: tf.cast(said if o is None else said[o], tf.float32) for n, o in outputs.items()}
        return (x, {**(y or {}), **more}, *weights)

    def taught(make: Callable) -> Callable:
        return lambda *args, **kwargs: make(*args, **kwargs).map(add)

    made = dataset.map(add)
    for name in ("steps", "buckets"):
        if hasattr(dataset, name):
            setattr(made, name, getattr(dataset, name))
    for name in ("stream", "part"):
        if hasattr(dataset, name):
            setattr(made, name, taught(getattr(dataset, name)))
    return made
