"""A learned combination of the modalities' decisions."""

from mmkeras.core import register
from mmkeras.fusion.decisions import DecisionFusion


@register
class StackingFusion(DecisionFusion):
    """out = W [q_1; ...; q_M; a] + b, q_m the output of modality m's head, a_m = 1 if it decides.

    Stacked generalisation (Wolpert 1992): a meta-learner over the decisions, linear as Ting and
    Witten 1999 recommend, here over logits (numbers of a `Regressor`). An absent modality has q_m
    = 0 and a_m = 0, so that its absence is something the meta-learner knows. h_m, q_m and the
    loss of each q_m: see `DecisionFusion` and `mk.heads.Decision(combine="stack")`.

    Deviations: Wolpert fits the meta-learner on decisions about samples that the modalities'
    models have not seen (cross-validation); here all is trained at once, on the loss of `out`
    plus the loss of each q_m, and the gradient of the former reaches the modalities too.

    When to use it: modalities whose decisions are biased, of unequal quality, or right about
    different classes. On few samples the meta-learner overfits; `late_averaging` cannot.

    Cost: see `DecisionFusion`; the meta-learner has M K^2 + M K + K weights and 2 M K^2
    floating-point operations per sample for K classes.

    Returns (see `Fusion`):
        tokens (B, M, D): one per modality, with the mask of those that decide.
    """

    combine = "stack"
