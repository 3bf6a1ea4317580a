"""Remedies for modalities that learn at different speeds, as switches of `Model.compile`."""

from typing import Any

from mmkeras.core.identifiers import resolve
from mmkeras.training.balancing.auxiliary import Auxiliary
from mmkeras.training.balancing.balanced import balanced
from mmkeras.training.balancing.blending import Blending, blending_weights
from mmkeras.training.balancing.ogm_ge import OgmGe
from mmkeras.training.balancing.remedy import Remedy

REMEDIES = {
    "auxiliary": Auxiliary,
    "blending": Blending,
    "ogm_ge": OgmGe,
    "probe": Remedy,
}

__all__ = [
    "REMEDIES",
    "Remedy",
    "balance",
    "balanced",
    "blending_weights",
]


def balance(name: Any, **options: Any) -> Remedy:
    """Returns a remedy for `model.compile(balance=...)`, which also takes its name alone.

    One modality is often learned faster than the others, and from then on the loss leaves those
    without gradient. Every remedy gives each modality heads of its own, which read the mean of its
    encoder's real tokens in training and evaluation, and logs for each modality, in `History`,
    TensorBoard and the progress bar (and for validation data with `val_` before the name):

        image_loss           loss of its own heads, mean over the samples that have it
        image_score          their score exp(-loss): of a Classifier the probability of the class
        image_gradient_norm  norm of the gradient of its encoder's weights (training only), summed
                             over the replicas, before the gradients are changed or clipped
        image_coefficient    "ogm_ge": by what this gradient is multiplied (training only)
        image_weight         "blending": weight of its loss (training only)

    `loss` and `val_loss` stay the task's, whatever is minimised, to compare runs. The heads belong
    to the compiled model: they are weights of it, checkpoints and `.keras` files hold them, and
    `load_model(..., compile=False)` leaves them away. They change no output and no signature.

    Args:
        name: "auxiliary" (`Auxiliary`), "blending" (`Blending`), "ogm_ge" (`OgmGe`), or "probe"
            (`Remedy`), which changes nothing and only measures; or a remedy, which is returned.
        **options: of the remedy.

    Raises:
        ValueError: an unknown name, or an option that is out of range.
    """
    if isinstance(name, Remedy) and not options:
        return name
    remedy, overrides = resolve(name, REMEDIES, "remedy")
    return remedy(**{**overrides, **options})
