"""Two or more sets of data in every batch, at given rates: of one task, or of one task each."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Target, checks
from mmkeras.data.drop import Ramp, rates_of
from mmkeras.data.options import tuned_map
from mmkeras.data.splits import Splits, check_shard


def mix(parts: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> "Mix":
    """Returns training data that takes a fixed share of every batch from each part.

    A modality that a part lacks is absent in its rows, and a target that a part lacks is unlabelled
    in them (see `Target.optional`), so that one `fit` trains heads on sources of their own, at the
    rates of the tasks. The batch of a global step is a function of the seeds and the step, as it
    is of each part, so that a run can be resumed at any step. `valid(64)` has the validation rows
    of all parts that have some.

        data = mk.data.mix({"own": own, "bought": bought}, rates={"own": 3, "bought": 1})
        model.fit(data.train(32), validation_data=own.valid(64))  # 24 rows of own, 8 of bought

    Args:
        parts: name -> `Data` or `Shards`; adapted alike: build the second with the modalities
            and targets of the first (`mk.data.table(..., first.modalities, first.targets)`).
        rates: name -> share of a batch, in any unit; equal shares when None.

    Raises:
        ValueError: parts that differ in a spec or in the classes of a target, or unknown names.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(f"`parts` must be a dict of name -> data. Received: {parts!r}.")
    rates = dict.fromkeys(parts, 1.0) if rates is None else dict(rates)
    if set(rates) != set(parts):
        raise ValueError(
            f"`rates` must hold a share for each of {sorted(parts)}. Received: {sorted(rates)}."
        )
    for name, rate in rates.items():
        if checks.real(f"rates[{name!r}]", rate) == 0.0:
            raise ValueError(f"A share must be above 0. Received: rates[{name!r}]=0. Leave it out.")
    modalities: dict[str, Modality] = {}
    for name, part in parts.items():
        for m, spec in part.modalities.items():
            if modalities.setdefault(m, spec) != spec:
                raise ValueError(
                    f"The parts must agree on what they share. Received: {m!r} differs in {name!r} "
                    "(a vocabulary, statistics or an argument). Build it with the modalities of "
                    "the first: mk.data.table(rows, first.modalities, first.targets)."
                )
    return Mix(dict(parts), rates, modalities, _targets(parts))


def _targets(parts: Mapping[str, Any]) -> dict[str, Target]:
    """Returns the targets of all parts; optional where a part lacks one, or rows of it."""
    found: dict[str, Target] = {}
    for name, part in parts.items():
        for target, spec in part.targets.items():
            held = found.setdefault(target, spec)
            if held.replace(optional=False) != spec.replace(optional=False):
                raise ValueError(
                    f"The parts must agree on a target's classes. Received: {spec} of {target!r} "
                    f"in {name!r}, {held} before. Build it with the targets of the first: "
                    "mk.data.table(..., first.targets)."
                )
    sets = [part.targets for part in parts.values()]
    return {
        target: spec.replace(optional=any(target not in s or s[target].optional for s in sets))
        for target, spec in found.items()
    }


@dataclass(frozen=True)
class Mix(Splits):
    """What `mix` returns.

    Attributes:
        parts, rates: see `mix`.
        modalities: of all parts, in the order in which they first appear.
        targets: of all parts; optional where a part lacks one.
    """

    parts: dict[str, Any]
    rates: dict[str, float]
    modalities: dict[str, Modality]
    targets: dict[str, Target]

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits that some part has."""
        return tuple(dict.fromkeys(s for part in self.parts.values() for s in part.split_names))

    def counts(self, batch_size: int) -> dict[str, int]:
        """Returns the rows of each part in a batch: its share, by largest remainders.

        Raises:
            ValueError: a part would have no row in a batch.
        """
        batch_size = checks.whole("batch_size", batch_size)
        exact = np.array(list(self.rates.values())) / sum(self.rates.values()) * batch_size
        counts = np.floor(exact + 1e-9).astype(int)
        order = np.argsort(counts - exact, kind="stable")
        counts[order[: batch_size - counts.sum()]] += 1
        if not counts.all():
            raise ValueError(
                "Every part must have a row in every batch. Received: "
                f"{dict(zip(self.rates, counts.tolist(), strict=True))} for "
                f"batch_size={batch_size}. Choose a larger batch or other rates."
            )
        return dict(zip(self.rates, counts.tolist(), strict=True))

    def train(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        augment: bool = True,
        shard: tuple[int, int] = (0, 1),
        buckets: None = None,
        drop: float | Ramp | Mapping[str, float | Ramp] | None = None,
    ) -> tf.data.Dataset:
        """Returns full batches `(x, y)`, the rows of the parts spread evenly over each.

        An epoch has as many steps as the part with the most of them: each row of that part comes
        at most once, the others begin anew. Carries `steps` and `stream`, as `Data.train` (which
        is what `fit` reads; iterated by hand, every pass is the first epoch). For n readers the
        rows of every part must divide by n. `drop` as of `Data.train`: from
        every part the modalities that it has.

        Raises:
            ValueError: `buckets`: the parts are shuffled by themselves, so that a batch would be
                as long as the longest of any part.
        """
        if buckets is not None:
            raise ValueError(
                "A mixture cannot be grouped by length, as its parts are shuffled by themselves. "
                f"Received: buckets={buckets!r}. Leave it out, or put the rows into one table: "
                "mk.data.table(...).train(..., buckets=...)."
            )
        check_shard(shard, batch_size)
        counts = self.counts(batch_size)
        rates, parts = rates_of(drop, self.modalities), {}
        for name, count in counts.items():
            part = self.parts[name]
            own = {m: rates[m] for m in part.modalities}
            parts[name] = part.train(count, shuffle=shuffle, augment=augment, drop=own)
        steps = max(part.steps for part in parts.values())
        place = np.concatenate([(np.arange(n) + 0.5) / n for n in counts.values()])

        def stream(first_step: int = 0, shard: tuple[int, int] = shard) -> tf.data.Dataset:
            check_shard(shard, batch_size)
            size = shard[1]
            edges = np.cumsum([0, *counts.values()])
            held = [place[a:b][: (b - a) // size] for a, b in zip(edges, edges[1:], strict=False)]
            order = tf.constant(np.argsort(np.concatenate(held), kind="stable"))
            streams = [part.stream(first_step, shard) for part in parts.values()]
            return tuned_map(
                tf.data.Dataset.zip(tuple(streams)), lambda *batches: self._join(batches, order)
            )

        dataset = stream().take(steps)
        dataset.steps, dataset.stream = steps, stream
        return dataset

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        shard: tuple[int, int] = (0, 1),
        drop: float | Mapping[str, float] | None = None,
    ) -> tf.data.Dataset:
        """Returns every row of a split of the parts that have it, one part after the other.

        A batch holds rows of one part. Carries `part(shard)`, and takes `drop`, as `Data.batches`
        does.

        Raises:
            ValueError: no part has the split.
        """
        held = [part for part in self.parts.values() if split in part.split_names]
        if not held:
            raise ValueError(
                f"No part has a split {split!r}. Received: parts {sorted(self.parts)}. Pass "
                f"`{split}=` to mk.data.table(...)."
            )
        rates = None if drop is None else rates_of(drop, self.modalities)

        def own(part: Any) -> tf.data.Dataset:
            rate = None if rates is None else {m: rates[m] for m in part.modalities}
            return part.batches(split, batch_size, shard=shard, drop=rate)

        made = [own(part) for part in held]

        def joined(parts: list) -> tf.data.Dataset:
            whole = [tuned_map(part, self._complete) for part in parts]
            return functools.reduce(tf.data.Dataset.concatenate, whole)

        dataset = joined(made)
        dataset.part = lambda shard: joined([part.part(shard) for part in made])
        return dataset

    def _join(self, batches: tuple, order: Any) -> tuple:
        """One batch of several."""
        whole = [self._complete(*batch) for batch in batches]
        return tf.nest.map_structure(lambda *held: tf.gather(tf.concat(held, 0), order), *whole)

    def _complete(self, x: Mapping, y: Mapping | None = None) -> tuple:
        """A part's batch with all modalities and targets; what it lacks is zeros, masks false."""
        rows = tf.shape(next(iter(x.values())))[:1]

        def zeros(shape: tuple, dtype: str) -> Any:
            return tf.zeros(tf.concat([rows, tf.constant(shape, tf.int32)], 0), dtype)

        made, truth = {}, {}
        for name, modality in self.modalities.items():
            mask = f"{name}_mask"
            made[name] = x[name] if name in x else zeros(modality.shape, modality.dtype)
            made[mask] = x[mask] if name in x else zeros(modality.mask_shape, "bool")
        for name, target in self.targets.items():
            there = y is not None and name in y
            truth[name] = y[name] if there else zeros(target.shape, target.dtype)
            if target.optional:
                always = tf.fill(rows, there)
                truth[f"{name}_mask"] = y.get(f"{name}_mask", always) if there else always
        return (made, truth) if truth else (made,)
