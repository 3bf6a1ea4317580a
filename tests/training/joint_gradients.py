"""Loss and every gradient of objectives of the global batch.

`pair.py` measures `CASES` alone and on two workers. By itself, `python joint_gradients.py OUT.json`
writes what `SOME` of the ways on one device and on two logical replicas differ from one device with
the whole batch, without XLA, tiles or micro-batches; with `--all`, every way of every loss.
"""

import contextlib
import json
import sys

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
    "info_nce, tiles, micro-batches, xla": (
        LABELLED(DIM, tile=4),
        12,
        {"jit": True, "accumulate_steps": 3},
    ),
    "siglip, uneven": (LABELLED(DIM, "siglip", scale=5), 13, {}),
    "hard_nce, uneven": (LABELLED(DIM, "hard_nce"), 13, {}),
    "triplet": (LABELLED(DIM, "triplet"), 12, {}),
    "queue, uneven": (mk.objectives.MomentumContrastive(DIM, 17, soft=0.4), 13, {}),
    "queue, xla": (mk.objectives.MomentumContrastive(DIM, 17, soft=0.4), 12, {"jit": True}),
}


# loss -> objective with tiles of so many rows
LOSSES = {
    "info_nce": lambda tile: LABELLED(DIM, tile=tile),
    "siglip": lambda tile: LABELLED(DIM, "siglip", scale=5, tile=tile),
    "hard_nce": lambda tile: LABELLED(DIM, "hard_nce", tile=tile),
    "triplet": lambda tile: LABELLED(DIM, "triplet"),
    "queue": lambda tile: mk.objectives.MomentumContrastive(DIM, 17, soft=0.4),
}
# way -> tile, options of compile, replicas
WAYS = {
    "XLA": (None, {"jit": True}, 1),
    "tiles": (4, {}, 1),
    "tiles, XLA": (4, {"jit": True}, 1),
    "cached": (None, {"accumulate_steps": 3}, 1),
    "cached, XLA": (None, {"accumulate_steps": 3, "jit": True}, 1),
    "2 replicas": (None, {}, 2),
    "2 replicas, XLA": (None, {"jit": True}, 2),
    "2 replicas, tiles, cached, XLA": (4, {"accumulate_steps": 3, "jit": True}, 2),
}
SOME = {
    "info_nce": ("tiles, XLA", "2 replicas"),
    "siglip": ("XLA", "2 replicas, tiles, cached, XLA"),
    "hard_nce": ("cached, XLA",),
    "triplet": ("2 replicas, XLA",),
}


def batch(rows, labels, step):
    """The global batch of a step, with absent modalities and labels."""
    rng = np.random.default_rng(step)
    x = {name: rng.standard_normal((rows, 3)).astype("float32") for name in SPECS}
    x |= {f"{name}_mask": rng.random(rows) < 0.8 for name in SPECS}
    x["a_mask"][:2] = x["b_mask"][:2] = x["c_mask"][:2] = True
    if not labels:
        return x, {}
    y = {"match": rng.integers(0, rows, rows).astype("int32")}
    y["match_mask"] = rng.random(rows) < 0.8
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


def by_replicas(strategy, objective, options, rows=12):
    """As `steps`, on the logical replicas of a strategy."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = mk.assemble(SPECS, heads={"match": objective})
        model.compile(keras.optimizers.SGD(0.1), **{"jit": False, **options})
    batches = [batch(rows, type(objective) is LABELLED, step) for step in range(STEPS)]
    half = tf.nest.map_structure(
        lambda a: tf.TensorSpec((rows // 2, *a.shape[1:]), a.dtype), batches[0]
    )
    model._maybe_symbolic_build(data_batch=half)
    model.make_train_function()

    def on_replica(*data):
        losses, predictions, gradients, _ = model._reduced_gradient(data)
        model._update(data, losses, predictions, gradients)
        return losses[0] * 2, gradients

    step = tf.function(lambda data: strategy.run(on_replica, data), autograph=False)
    found = {}
    for number, data in enumerate(batches):

        def part(context, data=data):
            start = context.replica_id_in_sync_group * rows // 2
            return tf.nest.map_structure(lambda a: tf.constant(a[start : start + rows // 2]), data)

        loss, gradients = step(strategy.experimental_distribute_values_from_function(part))
        found[f"{number}/loss"] = strategy.reduce("MEAN", loss, axis=None).numpy()
        for i, (variable, g) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
            first, second = (one.numpy() for one in strategy.experimental_local_results(g))
            assert first.tobytes() == second.tobytes()
            found[f"{number}/gradient/{i}/{variable.name}"] = first
    return found


def differences(chosen, strategy):
    """Returns loss -> way -> largest difference of the loss and of any gradient.

    The way "plain" has the largest values.
    """
    result = {}
    for loss, ways in chosen.items():
        plain = steps(LOSSES[loss](None), 12, {}, None, (0, 1))
        result[loss] = {"plain": _largest(plain)}
        for way in ways:
            tile, options, replicas = WAYS[way]
            made = LOSSES[loss](tile)
            if replicas == 1:
                found = steps(made, 12, options, None, (0, 1))
            else:
                found = by_replicas(strategy, made, options)
            largest = _largest(found, plain)
            result[loss][way] = largest
            print(loss, way, largest, flush=True)
    return result


def _largest(found, other=None):
    largest = {"loss": 0.0, "gradient": 0.0}
    for name, value in found.items():
        kind = name.split("/")[1]
        if kind in largest and name[0].isdigit():
            value = value if other is None else value - other[name]
            largest[kind] = max(largest[kind], float(np.abs(value).max()))
    return largest


if __name__ == "__main__":
    mirrored = mk.training.strategy("cpu:2")  # one: its collectives are numbered
    made = differences(dict.fromkeys(LOSSES, WAYS) if "--all" in sys.argv else SOME, mirrored)
    with open(sys.argv[1], "w") as file:
        json.dump(made, file)
