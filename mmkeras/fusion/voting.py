"""The majority of the modalities' decisions."""

from mmkeras.core import register
from mmkeras.fusion.decisions import DecisionFusion


@register
class VotingFusion(DecisionFusion):
    """p(y) = 0.999 v(y) / n + 0.001 (1 / n) sum_m p_m(y), v(y) the votes for class y.

    Majority voting of the n present modalities, each for its likeliest class (Kittler, Hatef,
    Duin and Matas 1998, "On combining classifiers"). The thousandth of the mean probability decides
    ties (of two modalities always) in favour of the surer side and keeps the logarithm finite. A
    `MultiLabel` head votes on each class by itself; a `Regressor` has nothing to count and is
    refused. h_m, p_m: see `DecisionFusion` and `mk.heads.Decision(combine="vote")`.

    What trains: a count has no gradient. In `mmkeras.Model` each modality's own loss trains it;
    besides, where the true class has no vote the loss is that of the mean probability, up to a
    constant.

    When to use it: three or more modalities of like quality, one of which may be badly wrong and
    sure of it. With two, `late_averaging` is the same choice, calibrated.

    Cost: see `DecisionFusion`; the count itself is O(M K) per sample for K classes.

    Returns (see `Fusion`):
        tokens (B, M, D): one per modality, with the mask of those that decide.
    """

    combine = "vote"
