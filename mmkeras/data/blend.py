"""MixUp and CutMix: two samples of a batch blended, and their labels with them."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality, Target, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data.draws import Draws

KINDS = {"mixup": ("audio", "image", "series", "vector", "video"), "cutmix": ("image",)}
"""What can be mixed: all modalities of the data must be of these kinds."""


def mixer(
    mix: Mapping[str, Mapping], modalities: Mapping[str, Modality], targets: Mapping[str, Target]
) -> Callable:
    """Returns `(x, y, draws) -> (x, y)` for a batch of an even number of rows.

    Neighbours are mixed, rows 0 and 1, 2 and 3 and so on, which shuffling has put side by side;
    so several readers of a batch mix as one does. Each pair draws a share from Beta(alpha, alpha).

    - "mixup" (Zhang et al. 2018): share * own + (1 - share) * other, of every modality. A step of a
      sequence is real where it is in either of the two; what is not there counts as zero.
    - "cutmix" (Yun et al. 2019): a box of the other picture, of about 1 - share of its area, the
      same box in all pictures of a sample; the share of the labels is that of the pixels.

    A pair in which one has a modality that the other lacks stays as it is.

    Labels become float32 (B, classes) that add up to 1, which `heads.Classifier` takes in loss
    and accuracy (of the likelier class); multi-hot labels and numbers are blended.

    Args:
        mix: `{"mixup": {"alpha": 0.2}}` or `{"cutmix": {"alpha": 1.0}}`.
        modalities, targets: adapted specs.

    Raises:
        ValueError: an unknown name or argument, a modality that cannot be mixed, no target.
    """
    if not isinstance(mix, Mapping) or len(mix) != 1:
        raise ValueError(
            "`mix` must be a dict of one entry, {'mixup': {'alpha': 0.2}} or {'cutmix': {'alpha': "
            f"1.0}}. Received: {mix!r}."
        )
    ((name, given),) = mix.items()
    if name not in KINDS:
        raise ValueError(f"Unknown way to mix {name!r}. {nearest(name, KINDS)}")
    given = {"alpha": 0.2 if name == "mixup" else 1.0, **(given or {})}
    if set(given) != {"alpha"}:
        raise ValueError(f"{name!r} knows the argument 'alpha'. Received: {sorted(given)}.")
    alpha = checks.real("alpha", given["alpha"], 1e-3)
    for modality, spec in modalities.items():
        if spec.kind not in KINDS[name]:
            raise ValueError(
                f"{name!r} can mix {', '.join(KINDS[name])}. Received: {modality!r}, of kind "
                f"{spec.kind!r}. Leave `mix` out."
            )
    if not targets:
        raise ValueError("`mix` changes the targets. Received: data without any.")
    for target, spec in targets.items():
        if spec.optional:
            raise ValueError(
                f"What is mixed must have its labels. Received: {target!r}, which rows may lack "
                "(optional=True). Leave `mix` out."
            )
    blend = _mixup if name == "mixup" else _cutmix

    def apply(x: dict, y: dict, draws: Draws) -> tuple[dict, dict]:
        pairs = tf.shape(next(iter(x.values())))[0] // 2
        share = tf.repeat(draws.beta(pairs, alpha), 2)
        for modality in modalities:
            mask = x[f"{modality}_mask"]
            here = tf.reduce_any(tf.reshape(mask, (tf.shape(mask)[0], -1)), axis=1)
            share = tf.where(here == other(here), share, 1.0)
        x, share = blend(x, modalities, share, draws.fold(0, 1))
        return x, {t: _target(spec, y[t], share) for t, spec in targets.items()}

    return apply


def other(rows: Any) -> Any:
    """Returns a batch with neighbours exchanged."""
    shape = tf.shape(rows)
    pairs = tf.reshape(rows, tf.concat([[shape[0] // 2, 2], shape[1:]], 0))
    return tf.reshape(tf.reverse(pairs, [1]), shape)


def _mixup(x: dict, modalities: Mapping, share: Any, draws: Draws) -> tuple[dict, Any]:
    out = {}
    for name in modalities:
        value, mask = x[name], x[f"{name}_mask"]
        own = _along(share, value)
        mixed = own * tf.cast(value, tf.float32) + (1.0 - own) * tf.cast(other(value), tf.float32)
        if value.dtype.is_integer:
            mixed = tf.saturate_cast(tf.round(mixed), value.dtype)
        out[name] = mixed
        out[f"{name}_mask"] = mask | (other(mask) & (_along(share, mask) < 1.0))
    return out, share


def _cutmix(x: dict, modalities: Mapping, share: Any, draws: Draws) -> tuple[dict, Any]:
    rows = tf.shape(share)[0]
    side = tf.sqrt(1.0 - share)[:, None] / 2.0
    centre = tf.repeat(draws.uniform(rows // 2, 2), 2, axis=0)
    top, bottom = tf.maximum(centre - side, 0.0), tf.minimum(centre + side, 1.0)
    out, kept = {}, []
    for name in modalities:
        value = x[name]
        inside = []
        for axis, length in enumerate(value.shape[1:3]):
            place = (tf.range(length, dtype=tf.float32) + 0.5) / length
            inside.append((place >= top[:, axis, None]) & (place < bottom[:, axis, None]))
        box = inside[0][:, :, None] & inside[1][:, None, :]
        out[name] = tf.where(box[..., None], other(value), value)
        out[f"{name}_mask"] = x[f"{name}_mask"]
        kept.append(1.0 - tf.reduce_mean(tf.cast(box, tf.float32), axis=(1, 2)))
    return out, tf.add_n(kept) / len(kept)


def _target(spec: Target, value: Any, share: Any) -> Any:
    if spec.kind == "label":
        value = tf.one_hot(value, len(spec.classes))
    value = tf.cast(value, tf.float32)
    own = _along(share, value)
    return own * value + (1.0 - own) * other(value)


def _along(share: Any, value: Any) -> Any:
    return tf.reshape(share, (-1, *[1] * (len(value.shape) - 1)))
