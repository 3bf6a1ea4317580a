"""Keras' optimizers with a rate per part of the model and weight decay where it belongs.

Keras has one learning rate per optimizer, decays biases like kernels, and forgets
`exclude_from_weight_decay` when a model is saved. The classes here add only that; every update
rule is Keras' own.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mmkeras.core import checks, register
from mmkeras.core.identifiers import nearest, resolve
from mmkeras.training import private

TABLES = ("embeddings", "position_embeddings", "table", "types")
"""Names of weights that hold one row per token, position or type: never decayed by default."""

_BLOCK = re.compile(r"^((?:[^/]*_backbone/)?[^/]*?)_?(?:block|layer)_?(\d+)(?:/|$)")


def multipliers(
    paths: Sequence[str],
    rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
) -> list[float]:
    """Returns the share of the learning rate that each weight trains with.

    Args:
        paths: of the trainable weights, in the model's order.
        rates: `fnmatch` pattern of a path -> share; the first pattern that matches counts, a
            weight that none matches has 1.
        layer_decay: d of layer-wise decay (Clark et al. 2020; as in BEiT, Bao et al. 2022), a
            further factor. In a stack of n layers named `<stem>_block<i>` (or `_layer_<i>`),
            block i has d^(n - i), what comes before the first block under the same stem
            (embeddings, positions) d^(n + 1), everything else 1: the last block trains at d. The
            stack of a borrowed backbone counts alike (`text_backbone/transformer_layer_0`).

    Raises:
        ValueError: a pattern that matches no path, or no stack of layers for `layer_decay`.
    """
    factors = [1.0] * len(paths)
    for pattern, rate in reversed((rates or {}).items()):
        for i in matches(pattern, paths):
            factors[i] = rate
    if layer_decay is None:
        return factors
    depths = _depths(paths)
    if not any(depths):
        raise ValueError(
            "`layer_decay` needs layers named '<stem>_block<i>' or '<stem>_layer_<i>'. "
            f"Received a model without: {', '.join(sorted({p.split('/')[0] for p in paths}))}. "
            "Use `rates={'<pattern>': share}`."
        )
    return [factor * layer_decay**depth for factor, depth in zip(factors, depths, strict=True)]


def matches(pattern: str, names: Sequence[str]) -> list[int]:
    """Returns where `names` match the `fnmatch` pattern, or raises with the nearest pattern."""
    found = [i for i, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        starts = {re.match(r"[^/_]*(_|/|$)", name)[0] for name in names}
        ends = {name.rpartition("/")[2] for name in names if "/" in name}
        raise ValueError(
            f"The pattern {pattern!r} must match at least one name ('*' stands for any text). "
            f"{nearest(pattern, {*(f'{s}*' for s in starts), *(f'*{e}' for e in ends)})}"
        )
    return found


def _depths(paths: Sequence[str]) -> list[int]:
    """Blocks between a weight and the top of its stack, counted from 1; 0 outside of stacks."""
    blocks = [_BLOCK.match(path) for path in paths]
    depths = [0] * len(paths)
    for stem in {match[1] for match in blocks if match}:
        mine = {i: int(match[2]) for i, match in enumerate(blocks) if match and match[1] == stem}
        count, first = max(mine.values()) + 1, min(mine)
        root = f"{stem.rpartition('/')[0]}/" if "/" in stem else f"{stem}_"
        for i in range(first):
            if paths[i].startswith(root):
                depths[i] = count + 1
        for i, index in mine.items():
            depths[i] = count - index
    return depths


def decays(variable: Any) -> bool:
    """Whether weight decay acts on a weight by default: kernels, yes; vectors and tables, no.

    A vector has no axis longer than 1 before its last (biases, scales of normalisation, learned
    tokens, temperatures); a table has a name of `TABLES`.
    """
    vector = all(size == 1 for size in variable.shape[:-1])
    return not vector and variable.path.split("/")[-1] not in TABLES


class _PerPart:
    """What the classes of this module add to an optimizer of Keras.

    Args:
        learning_rate: as in Keras.
        rates, layer_decay: see `multipliers`; decoupled weight decay follows the same rates, as
            if every weight had an optimizer of its own.
        no_decay: patterns of the weights that `weight_decay` leaves alone; by `decays` when None.
        **kwargs: of the optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        rates: Mapping[str, float] | None = None,
        layer_decay: float | None = None,
        no_decay: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.rates = {p: _positive(f"rates[{p!r}]", rate) for p, rate in (rates or {}).items()}
        self.layer_decay = layer_decay and _positive("layer_decay", layer_decay)
        self.no_decay = None if no_decay is None else tuple(no_decay)

    def build(self, variables: list) -> None:
        """Creates the slots, and finds rate and decay of every weight."""
        if self.built:
            return
        paths = [v.path for v in variables]
        self._factors = tuple(multipliers(paths, self.rates, self.layer_decay))
        if self.no_decay is None:
            self._decayed = tuple(decays(v) for v in variables)
        else:
            kept = {i for pattern in self.no_decay for i in matches(pattern, paths)}
            self._decayed = tuple(i not in kept for i in range(len(paths)))
        # Keras decays with one rate for all: `update_step` does it with the weight's own.
        self.exclude_from_weight_decay(var_list=variables)
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays one weight, then updates it, both with its own rate."""
        index = private.index_of(self, variable)
        rate = ops.cast(learning_rate, variable.dtype)
        if self._factors[index] != 1.0:
            rate = rate * self._factors[index]
        if self.weight_decay and self._decayed[index]:
            self.assign_sub(variable, variable * ops.cast(self.weight_decay * rate, variable.dtype))
        super().update_step(gradient, variable, rate)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in ("rates", "layer_decay", "no_decay")}
        return {**super().get_config(), **own}


def _positive(name: str, value: Any) -> float:
    if checks.real(name, value) == 0.0:
        raise ValueError(
            f"`{name}` must be above 0. Received: 0. To keep weights as they are, use "
            "mk.training.freeze(model, [pattern]), which also saves the work."
        )
    return float(value)


@register
class Adafactor(_PerPart, keras.optimizers.Adafactor):
    """Shazeer & Stern 2018. The rate of a part bounds Keras' relative step."""


class _FusedAdam:
    """Adam's update in one kernel per weight: half the graph to trace, the numbers of Keras."""

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        """Applies gradients; the powers of beta are computed once for all weights."""
        self._powers = None
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one weight."""
        if self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        dtype = variable.dtype
        if self._powers is None:
            step = tf.cast(self.iterations + 1, dtype)
            betas = [tf.constant(beta, dtype) for beta in (self.beta_1, self.beta_2)]
            constants = [*betas, tf.constant(self.epsilon, dtype)]
            self._powers = [*(tf.pow(beta, step) for beta in betas)], constants
        powers, constants = self._powers
        slots = private.adam_slots(self, private.index_of(self, variable))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=tf.cast(learning_rate, dtype),
            beta1=constants[0],
            beta2=constants[1],
            epsilon=constants[2],
            grad=tf.cast(gradient, dtype),
        )


@register
class Adam(_PerPart, _FusedAdam, keras.optimizers.Adam):
    """Kingma & Ba 2015."""


@register
class AdamW(_PerPart, _FusedAdam, keras.optimizers.AdamW):
    """Loshchilov & Hutter 2019: Adam with decoupled weight decay."""


@register
class Lamb(_PerPart, keras.optimizers.Lamb):
    """You et al. 2020, for large batches."""


@register
class Lion(_PerPart, keras.optimizers.Lion):
    """Chen et al. 2023; wants a rate 3 to 10 times below AdamW's, and that much more decay."""


@register
class RMSprop(_PerPart, keras.optimizers.RMSprop):
    """Tieleman & Hinton 2012."""


@register
class SGD(_PerPart, keras.optimizers.SGD):
    """Gradient descent, with `momentum=` and `nesterov=`."""


OPTIMIZERS = {
    "adafactor": Adafactor,
    "adam": Adam,
    "adamw": AdamW,
    "lamb": Lamb,
    "lion": Lion,
    "rmsprop": RMSprop,
    "sgd": SGD,
}


def optimizer(
    name: str = "adamw",
    learning_rate: Any = 0.001,
    *,
    weight_decay: float | None = None,
    no_decay: Sequence[str] | None = None,
    rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
    ema: float | None = None,
    **kwargs: Any,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer for `model.compile`; Keras' own rule, and saved with the model.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: number above 0 or a schedule (`mk.training.schedule`).
        weight_decay: decoupled, per unit of learning rate; the optimizer's default when None
            (0.004 for AdamW, else none).
        no_decay: patterns of weight paths that are not decayed. None spares biases, scales of
            normalisation, learned tokens, embeddings and positions (see `decays`); `()` decays
            all, as Keras does.
        rates: share of the learning rate per part, by patterns of weight paths, e.g.
            `{"image_*": 0.1}`; the first that matches counts.
        layer_decay: factor per transformer block, downwards (see `multipliers`).
        ema: momentum of an exponential moving average of the weights, e.g. 0.999. `fit` ends
            with the averaged weights; `keras.callbacks.SwapEMAWeights()` evaluates them on the
            way.
        **kwargs: arguments of the optimizer, e.g. `momentum=0.9`.

    Raises:
        ValueError: unknown name; at the first step, a pattern that matches no weight.

    >>> optimizer("sgd", 0.1, momentum=0.9, rates={"image_*": 0.1}).rates
    {'image_*': 0.1}
    """
    cls, _ = resolve(name, OPTIMIZERS, "optimizer")
    if not callable(learning_rate):
        learning_rate = checks.real("learning_rate", learning_rate)
    if weight_decay is not None:
        kwargs["weight_decay"] = checks.real("weight_decay", weight_decay)
    if ema is not None:
        kwargs |= {"use_ema": True, "ema_momentum": checks.real("ema", ema, 0.0, 1.0)}
    return cls(learning_rate, rates=rates, layer_decay=layer_decay, no_decay=no_decay, **kwargs)
