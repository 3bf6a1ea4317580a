"""Loss and every gradient of objectives of the global batch, of `pair.py`: alone or of workers."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk

STEPS, DIM = 2, 8
SPECS = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b", "c")}
LABELLED = mk.objectives.Contrastive
# case -> objective, rows of a batch, how several workers compute it
CASES = {
    "info_nce": (LABELLED(DIM), 12, {}),
    "info_nce, xla": (LABELLED(DIM), 12, {"jit": True}),
    "siglip, uneven": (LABELLED(DIM, "siglip", scale=5), 13, {}),
    "hard_nce, uneven": (LABELLED(DIM, "hard_nce"), 13, {}),
    "triplet": (LABELLED(DIM, "triplet"), 12, {}),
    "queue, uneven": (mk.objectives.MomentumContrastive(DIM, 17, soft=0.4), 13, {}),
    "queue, xla": (mk.objectives.MomentumContrastive(DIM, 17, soft=0.4), 12, {"jit": True}),
}


def batch(rows, labels, step):
    """The global batch of a step, with absent modalities."""
    rng = np.random.default_rng(step)
    x = {name: rng.standard_normal((rows, 3)).astype("float32") for name in SPECS}
    x |= {f"{name}_mask": rng.random(rows) < 0.8 for name in SPECS}
    x["a_mask"][:2] = x["b_mask"][:2] = x["c_mask"][:2] = True
    if not labels:
        return x, {}
    y = {"match": rng.integers(0, rows, rows).astype("int32")}
    return x, y, {"match": rng.uniform(0.5, 1.5, rows).astype("float32")}


def steps(objective, rows, options, strategy, share):
    """Loss and gradients of every step, then the model's variables.

    Args:
        objective: head.
        rows: of the global batch.
        options: of compile.
        strategy: None alone.
        share: (i, n): part i of n of the rows is this process'.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(SPECS, heads={"match": objective})
        model.compile(keras.optimizers.SGD(0.1), **{"jit": False, **options})
    batches = [batch(rows, type(objective) is LABELLED, step) for step in range(STEPS)]
    even = rows % 2 == 0
    spec = tf.nest.map_structure(
        lambda a: tf.TensorSpec((rows // share[1] if even else None, *a.shape[1:]), a.dtype),
        batches[0],
    )
    model._maybe_symbolic_build(data_batch=spec)
    model.make_train_function()

    def on_replica(*data):
        losses, predictions, gradients, _ = model._reduced_gradient(data)
        model._update(data, losses, predictions, gradients)
        return losses[0] * model.distribute_strategy.num_replicas_in_sync, gradients  # as logged

    @tf.function(autograph=False, input_signature=spec)
    def step(*data):
        return model.distribute_strategy.run(on_replica, data)

    found = {}
    first, last = (i * rows // share[1] for i in (share[0], share[0] + 1))
    for number, data in enumerate(batches):
        data = tf.nest.map_structure(lambda a: tf.constant(a[first:last]), data)
        loss, gradients = step(*data)
        found[f"{number}/loss"] = loss.numpy()
        for i, (variable, g) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
            found[f"{number}/gradient/{i}/{variable.name}"] = g.numpy()
    for i, variable in enumerate(model.variables):
        found[f"after/{i}/{variable.name}"] = variable.numpy()
    return found


def measured(strategy, rank):
    """All cases: alone by one device without XLA.

    Args:
        strategy: of two workers; None alone.
        rank: of this worker.
    """
    result, known = {}, {}
    for case, (objective, rows, options) in CASES.items():
        if strategy is None:
            key = (case.split(",")[0], rows)
            if key not in known:
                known[key] = steps(objective, rows, {}, None, (0, 1))
            found = known[key]
        else:
            found = steps(objective, rows, options, strategy, (rank, 2))
        result |= {f"joint/{case}/{name}": value for name, value in found.items()}
    return result
