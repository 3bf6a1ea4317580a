"""The mean of the modalities' decisions."""

from mmkeras.core import register
from mmkeras.fusion.decisions import DecisionFusion


@register
class LateAveragingFusion(DecisionFusion):
    """p(y) = (1 / n) sum_m p_m(y), the sum over the n present modalities.

    The sum rule of Kittler, Hatef, Duin and Matas 1998, "On combining classifiers": the
    probabilities are averaged and not the logits, so that one confident modality cannot veto the
    others; numbers of a `Regressor` are averaged as they are. h_m, p_m and the loss of each p_m:
    see `DecisionFusion` and `mk.heads.Decision(combine="mean")`.

    Deviations: the modalities' models are trained together, on the loss of the mean plus the
    loss of each, where the literature trains them one by one and averages afterwards (which is
    `Decision(..., part_weight=...)` with a large weight).

    When to use it: few samples, or modalities that are often missing; the first bar of any
    comparison. It cannot see what only several modalities together tell.

    Cost: see `DecisionFusion`; the mean itself is O(M K) per sample for K classes.

    Returns (see `Fusion`):
        tokens (B, M, D): one per modality, with the mask of those that decide.
    """

    combine = "mean"
