"""What `Model.compile` and `Model.fit` accept: checks with the way out, before anything runs."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.core.identifiers import nearest


def check(jit: bool | str, clip_norm: float | None, accumulate_steps: int) -> None:
    """Raises for values of `compile` that are out of range."""
    if not isinstance(jit, bool) and jit != "auto":
        raise ValueError(f"`jit` must be True, False or 'auto'. Received: jit={jit!r}.")
    if clip_norm is not None and checks.real("clip_norm", clip_norm) == 0.0:
        raise ValueError(
            "`clip_norm` must be above 0, or nothing would train. Received: 0. None clips nothing."
        )
    checks.whole("accumulate_steps", accumulate_steps)


def check_balances(balance: Any, tasks: Any) -> None:
    """Raises where both would change the step."""
    if balance is not None and tasks is not None:
        raise ValueError(
            "A model balances its modalities (`balance`) or its tasks (`tasks`), since both change "
            f"the same gradients. Received: balance={balance!r}, tasks={tasks!r}. Leave one out."
        )


def check_losses(losses: Mapping, outputs: list[str]) -> None:
    """Raises when an output has no loss."""
    missing = sorted(set(outputs) - set(losses))
    if missing:
        raise ValueError(
            f"compile() needs a loss for every output. Received none for {missing}, whose layers "
            "have no default. Pass `loss={...}`."
        )


def check_synchronized(layers: list[str], jit: bool | str, accumulate_steps: int) -> None:
    """Raises for what layers that synchronise the replicas in their forward pass forbid."""
    if layers and (jit is True or accumulate_steps > 1):
        raise ValueError(
            f"Layers that synchronise the replicas ({', '.join(layers)}) cannot be compiled with "
            f"XLA, nor accumulate. Received: jit={jit}, accumulate_steps={accumulate_steps}. Use "
            "jit='auto' or False and accumulate_steps=1, or synchronized=False."
        )


def check_even(dataset: Any, replicas: int, accumulate_steps: int) -> None:
    """Raises when a full batch cannot be shared evenly by replicas and micro-batches."""
    rows = tf.nest.flatten(dataset.element_spec)[0].shape[:1]
    if rows and rows[0] is not None and rows[0] % (replicas * accumulate_steps):
        raise ValueError(
            f"The batch must divide evenly over {replicas} replicas x {accumulate_steps} "
            f"micro-batches. Received: {rows[0]} rows. Choose a multiple of "
            f"{replicas * accumulate_steps}."
        )


def refuse(kwargs: Mapping, optimizer: Any, loss: Any, replicas: int) -> None:
    """Raises for the Keras options that are wrong (or fail) on more than one replica."""
    if "jit_compile" in kwargs:
        raise ValueError("mmkeras compiles per replica: use `jit=` instead of `jit_compile=`.")
    if kwargs.get("steps_per_execution", 1) != 1:
        raise ValueError(
            "`steps_per_execution` must be 1: Keras' own fails on several replicas. Received: "
            f"{kwargs['steps_per_execution']}. Leave it out."
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for option, instead in (
        ("clipnorm", "compile(clip_norm=...)"),
        ("global_clipnorm", "compile(clip_norm=...)"),
        ("clipvalue", "compile(clip_norm=...)"),
        ("gradient_accumulation_steps", "compile(accumulate_steps=...)"),
        ("ema_overwrite_frequency", "use_ema with the SwapEMAWeights callback"),
    ):
        if replicas > 1 and getattr(inner, option, None):
            raise ValueError(
                f"The optimizer's `{option}` is not exact on several replicas (Keras applies it "
                f"before the gradients are summed). Use {instead} instead."
            )
    for name in {getattr(part, "reduction", None) for part in keras.tree.flatten(loss)}:
        if replicas > 1 and name == "mean_with_sample_weight":
            raise ValueError(
                "A loss with reduction='mean_with_sample_weight' divides by the weights of one "
                "replica and is not exact on several. Use the default reduction, with weights "
                "whose mean is 1."
            )


def loss_weights(given: Any, outputs: list[str]) -> dict[str, float]:
    """Returns output -> weight, of those that `compile(loss_weights=)` names.

    Args:
        given: dict, a list in the order of the outputs, a number for an only one, or None.
        outputs: of the model, objectives among them.

    Raises:
        ValueError: another output, or another number of them.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        listed = list(given) if isinstance(given, list | tuple) else [given]
        if len(listed) != len(outputs):
            raise ValueError(
                f"`loss_weights` must have a weight for each of the outputs {outputs}, or be a "
                f"dict. Received: {given}."
            )
        given = dict(zip(outputs, listed, strict=True))
    for name in given:
        if name not in outputs:
            raise ValueError(
                f"`loss_weights` has no output {name!r} to weigh. {nearest(name, outputs)}"
            )
    return {name: float(weight) for name, weight in given.items()}


def class_weights(dataset: tf.data.Dataset, weight: Mapping, outputs: list[str]) -> tf.data.Dataset:
    """Returns `(x, y)` batches with the sample weights that `class_weight` asks for.

    Args:
        dataset: of `(x, y)`, y a dict of integer labels (B,).
        weight: class index -> weight, or head -> such a dict.
        outputs: names of the heads.
    """
    if not any(isinstance(value, Mapping) for value in weight.values()):
        if len(outputs) != 1:
            raise ValueError(
                f"`class_weight` of a model with several heads must name them. Received: "
                f"{dict(weight)}. Write {{'{outputs[0]}': {{0: 1.0, ...}}}}."
            )
        weight = {outputs[0]: weight}
    for name in weight:
        if name not in outputs:
            raise ValueError(f"Unknown head {name!r} in `class_weight`. Known: {outputs}.")
    tables = {}
    for name, values in weight.items():
        table = [1.0] * (max(values) + 1)
        for index, value in values.items():
            table[checks.whole("class_weight key", index, 0)] = checks.real("class_weight", value)
        tables[name] = tf.constant(table, tf.float32)

    def weigh(x: Any, y: Any) -> tuple:
        def of(name: str) -> Any:
            if name not in tables:
                return tf.ones(tf.shape(y[name])[:1])
            if y[name].dtype.is_floating:
                raise ValueError(
                    f"`class_weight` needs one class per row. Received: soft labels of {name!r}. "
                    "Leave `mix` or `class_weight` out."
                )
            labels, table = tf.cast(y[name], tf.int32), tables[name]
            inside = labels < tf.shape(table)[0]
            return tf.where(inside, tf.gather(table, tf.where(inside, labels, 0)), 1.0)

        return x, y, {name: of(name) for name in outputs}

    return dataset.map(weigh)
