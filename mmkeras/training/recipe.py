"""One way to train a model with a few numbers: what comparisons, searches and experiments share."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkeras.core import checks
from mmkeras.core.identifiers import nearest
from mmkeras.training import multitask, optimizers
from mmkeras.training.batch_losses import objectives_of

RECIPE = {"epochs": 10, "batch": 64, "rate": 1e-3, "weight_decay": 1e-2, "clip_norm": 1.0}
"""Epochs, rows per batch, highest learning rate, decay of all weights, largest gradient norm."""
OPTIONAL = ("drop", "ema", "jit", "mix", "tasks")


def checked(recipe: Mapping[str, Any] | None, more: Mapping[str, Any] | None = None) -> dict:
    """Returns the recipe with the defaults filled in, or raises for a key that nobody reads.

    Args:
        recipe: some of `RECIPE`, `OPTIONAL` and `more`.
        more: further keys with their defaults.
    """
    known = {**RECIPE, **(more or {})}
    for key in recipe or {}:
        if key not in known and key not in OPTIONAL:
            raise ValueError(
                f"Unknown key {key!r} in `recipe`. {nearest(key, {*known, *OPTIONAL})}"
            )
    full = {**known, **(recipe or {})}
    checks.whole("recipe['epochs']", full["epochs"])
    checks.whole("recipe['batch']", full["batch"])
    checks.real("recipe['rate']", full["rate"])
    checks.real("recipe['weight_decay']", full["weight_decay"])
    return full


def train(
    model: keras.Model, data: Any, recipe: Mapping[str, Any], **kwargs: Any
) -> keras.callbacks.History:
    """Trains with AdamW: 5 % of the steps warm up, then the rate falls to 0 by a cosine.

    Args:
        model: assembled, not yet compiled.
        data: with a split "train".
        recipe: the keys of `RECIPE`; "ema": the model ends with this moving average of its
            weights; "jit": as of `compile`; "drop" (modality dropout) and "mix" (MixUp or CutMix):
            as of `data.train`; "tasks": as of `compile`, where learnt variances are not decayed
            (nor are scales and biases of objectives).
        **kwargs: of `fit`: `validation_data`, `callbacks`, `verbose`.
    """
    recipe = checked(recipe)
    given = {key: recipe[key] for key in ("drop", "mix") if key in recipe}
    dataset = data.train(recipe["batch"], **given)
    steps = recipe["epochs"] * dataset.steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=recipe["rate"], warmup_steps=steps // 20
    )
    tasks = recipe.get("tasks")
    tasks = tasks if tasks is None else multitask.tasks(tasks)
    spared = [v.path for o in objectives_of(model).values() for v in o.trainable_variables]
    spared = [path for path in spared if path.split("/")[-1] in ("log_scale", "bias")]
    if isinstance(tasks, multitask.Uncertainty):
        spared.append("tasks/log_variance")
    optimizer = optimizers.optimizer(
        "adamw",
        schedule,
        weight_decay=recipe["weight_decay"],
        no_decay=spared,
        ema=recipe.get("ema"),
    )
    options = {"jit": recipe.get("jit", "auto"), "tasks": tasks}
    model.compile(optimizer, clip_norm=recipe["clip_norm"], **options)
    return model.fit(dataset, epochs=recipe["epochs"], **kwargs)
