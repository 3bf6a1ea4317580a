"""Modality dropout: modalities taken away from single samples, at rates or by a schedule.

A modality that is dropped is absent as one that the data lack: its mask is false everywhere and its
content zero. Every sample is drawn by itself (ModDrop, Neverova et al. 2016, drops so too).

The rule: of the modalities that a sample has, each is dropped with its rate, independently. Where
that would drop all of them, one, each as likely, stays. So with P the modalities of a sample

    P(m is dropped) = r_m - prod(r_k for k in P) / |P|

and what a sample has alone is never dropped. A rate of 1 is no chance but an order: the modality is
absent in every sample and is none of those that may stay (P in |P| is then without it).

The modality that stays is the one whose number u_m, uniform in [0, 1), is the largest share of its
rate; given that all u_m < r_m, these shares are uniform and independent, so that each is as likely.
Where all rates are equal, what is missing at a rate is missing at every higher rate too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data.draws import Draws


@dataclass(frozen=True)
class Ramp:
    """A rate that goes from `first` to `last` in a straight line, and then stays.

    Attributes:
        first: rate at the first step of the training.
        last: rate from the step `steps` on.
        steps: global training steps, e.g. `epochs // 2 * data.train(64).steps`.
    """

    first: float
    last: float
    steps: int

    def __post_init__(self) -> None:
        """Checks the rates and the steps."""
        for name in ("first", "last"):
            object.__setattr__(self, name, checks.real(name, getattr(self, name), 0.0, 1.0))
        object.__setattr__(self, "steps", checks.whole("steps", self.steps))

    def at(self, step: Any) -> Any:
        """Returns the rate at a global step, float32."""
        share = tf.cast(tf.minimum(tf.cast(step, tf.int64), self.steps) / self.steps, tf.float32)
        return self.first * (1.0 - share) + self.last * share


def rates_of(drop: Any, modalities: Mapping[str, Modality]) -> dict[str, float | Ramp]:
    """Returns modality -> its rate, 0 where `drop` names none.

    Args:
        drop: a rate or `Ramp` for all modalities, or a dict of modality -> rate or `Ramp`; None
            for none.
        modalities: of the data.

    Raises:
        ValueError: an unknown modality, or a rate outside [0, 1].
    """
    if drop is None:
        drop = {}
    if not isinstance(drop, Mapping):
        drop = dict.fromkeys(modalities, drop)
    for name in drop:
        if name not in modalities:
            raise ValueError(f"Unknown modality {name!r} in `drop`. {nearest(name, modalities)}")
    return {name: _rate(name, drop.get(name, 0.0)) for name in modalities}


def _rate(name: str, rate: Any) -> float | Ramp:
    if isinstance(rate, Ramp):
        return rate
    try:
        return checks.real(f"drop[{name!r}]", rate, 0.0, 1.0)
    except ValueError as error:
        raise ValueError(
            f"{error} Give a rate for all modalities, 0.3, one for each, {{{name!r}: 0.3}}, or in "
            "place of a number mk.data.Ramp(0.0, 0.5, steps=2000)."
        ) from None


def in_training(drop: Any, modalities: Mapping[str, Modality]) -> Callable:
    """Returns `(batch, draws, step) -> batch`, for batches `(x, ...)` and their global step.

    Raises:
        ValueError: as `rates_of`, or no modality is left to train on.
    """
    rates = rates_of(drop, modalities)
    highest = [max(r.first, r.last) if isinstance(r, Ramp) else r for r in rates.values()]
    if min(highest) == 1.0:
        raise ValueError(
            "A rate of 1 takes a modality from every sample, and one must be left to train on. "
            f"Received: drop={drop!r}. Keep a rate below 1."
        )
    if not any(highest):
        return lambda batch, draws, step: batch
    fold = 7919 * (len(rates) + 1)  # those below are of the modalities and of what mixes them

    def apply(batch: tuple, draws: Draws, step: Any) -> tuple:
        now = tf.stack([r.at(step) if isinstance(r, Ramp) else r for r in rates.values()])
        rows = tf.shape(next(iter(batch[0].values())))[0]
        drawn = draws.fold(0, fold).uniform(rows, len(rates))
        return _without(batch, list(rates), now, drawn)

    return apply


def in_evaluation(
    drop: Any, modalities: Mapping[str, Modality], *, rows: int, seed: int
) -> Callable:
    """Returns `(batch, numbers) -> batch`, for batches `(x, ...)` and their rows' numbers (B,).

    What is missing in a row is a function of the seed and the row's number in the split.

    Args:
        drop, modalities: see `rates_of`; no `Ramp`.
        rows: of the split.
        seed: of the data.
    """
    rates = rates_of(drop, modalities)
    for name, rate in rates.items():
        if isinstance(rate, Ramp):
            raise ValueError(
                "An evaluation has no steps along which a rate could change. Received: "
                f"drop[{name!r}]={rate}. Give the rate itself."
            )
    if not any(rates.values()):
        return lambda batch, numbers: batch
    now, drawn = tf.constant(list(rates.values())), of_rows(rows, len(rates), seed)
    return lambda batch, numbers: _without(batch, list(rates), now, tf.gather(drawn, numbers))


def of_rows(rows: int, modalities: int, seed: int) -> Any:
    """Returns float32 (rows, modalities), uniform in [0, 1): what an evaluation draws."""
    return tf.random.stateless_uniform((rows, modalities), [seed, 7919])


def dropped(here: Any, rates: Any, drawn: Any) -> Any:
    """Returns bool (B, M): what is dropped of the modalities that are there, by the rule above.

    Args:
        here: bool (B, M), True where the sample has the modality.
        rates: float32 (M,).
        drawn: float32 (B, M), uniform in [0, 1).
    """
    lost = here & (drawn < rates)
    may_stay = here & (rates < 1.0)
    score = tf.where(may_stay, tf.math.divide_no_nan(drawn, rates), -1.0)
    best = tf.one_hot(tf.argmax(score, axis=1), here.shape[1], True, False, dtype=tf.bool)
    nothing_left = tf.reduce_all(lost == here, axis=1, keepdims=True)
    return lost & ~(nothing_left & best & may_stay)


def present(x: Mapping[str, Any], modalities: Any) -> Any:
    """Returns bool (B, M): whether the sample has the modality."""
    masks = [x[f"{name}_mask"] for name in modalities]
    return tf.stack([tf.reduce_any(m, axis=list(range(1, m.shape.rank))) for m in masks], axis=1)


def _without(batch: tuple, names: list[str], rates: Any, drawn: Any) -> tuple:
    x = dict(batch[0])
    lost = dropped(present(x, names), rates, drawn)
    for place, name in enumerate(names):
        for key in (name, f"{name}_mask"):
            gone = lost[(slice(None), place, *[tf.newaxis] * (x[key].shape.rank - 1))]
            x[key] = tf.where(gone, tf.zeros_like(x[key]), x[key])
    return (x, *batch[1:])
