"""Two or more sets of data in every batch, at given rates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Target, checks
from mmkeras.data.drop import Ramp, rates_of
from mmkeras.data.options import tuned_map
from mmkeras.data.splits import check_shard, only_classes


def mix(parts: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> "Mix":
    """Returns training data that takes a fixed share of every batch from each part.

    A modality that a part lacks is absent in its rows; targets must be the same. The batch of a
    global step is a function of the seeds and the step, as it is of each part, so that a run can
    be resumed at any step. Validate on the parts: `parts["name"].valid(64)`.

        data = mk.data.mix({"own": own, "bought": bought}, rates={"own": 3, "bought": 1})
        model.fit(data.train(32), validation_data=own.valid(64))  # 24 rows of own, 8 of bought

    Args:
        parts: name -> `Data` or `Shards`; adapted alike: build the second with the modalities
            and targets of the first (`mk.data.table(..., first.modalities, first.targets)`).
        rates: name -> share of a batch, in any unit; equal shares when None.

    Raises:
        ValueError: parts that differ in a spec or target, or unknown names.
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
    targets = next(iter(parts.values())).targets
    for name, part in parts.items():
        for m, spec in part.modalities.items():
            if modalities.setdefault(m, spec) != spec:
                raise ValueError(
                    f"The parts must agree on what they share. Received: {m!r} differs in {name!r} "
                    "(a vocabulary, statistics or an argument). Build it with the modalities of "
                    "the first: mk.data.table(rows, first.modalities, first.targets)."
                )
        if part.targets != targets:
            raise ValueError(
                f"The parts must have the same targets and classes. Received: {part.targets} in "
                f"{name!r}, {targets} before. Build it with mk.data.table(..., first.targets)."
            )
    return Mix(dict(parts), rates, modalities, dict(targets))


@dataclass(frozen=True)
class Mix:
    """What `mix` returns.

    Attributes:
        parts, rates: see `mix`.
        modalities: of all parts, in the order in which they first appear.
        targets: of every part.
    """

    parts: dict[str, Any]
    rates: dict[str, float]
    modalities: dict[str, Modality]
    targets: dict[str, Target]

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the only target that has any."""
        return only_classes(self.targets)

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

    def _join(self, batches: tuple, order: Any) -> tuple:
        """One batch of several; what a part lacks is zeros behind a false mask."""
        x = {}
        for name, modality in self.modalities.items():
            shapes = {name: modality.shape, f"{name}_mask": modality.mask_shape}
            dtypes = {name: modality.dtype, f"{name}_mask": "bool"}
            for key, shape in shapes.items():
                held = [self._value(part[0], key, shape, dtypes[key]) for part in batches]
                x[key] = tf.gather(tf.concat(held, 0), order)
        y = {
            name: tf.gather(tf.concat([b[1][name] for b in batches], 0), order)
            for name in self.targets
        }
        return (x, y) if y else (x,)

    @staticmethod
    def _value(x: Mapping, key: str, shape: tuple, dtype: str) -> Any:
        if key in x:
            return x[key]
        return tf.zeros((tf.shape(next(iter(x.values())))[0], *shape), dtype)
