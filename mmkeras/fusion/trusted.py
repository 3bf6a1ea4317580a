"""Trusted multi-view classification: evidence of the modalities, combined by Dempster's rule."""

from mmkeras.core import register
from mmkeras.fusion.decisions import DecisionFusion


@register
class TrustedFusion(DecisionFusion):
    """1 + e(y) / K = prod_m (1 + e_m(y) / K), e_m the evidence of the present modality m.

    TMC (Han, Zhang, Fu and Zhou 2021, arXiv 2102.02051): each modality gives an opinion, the
    belief b_m(y) = e_m(y) / S_m in every class and the uncertainty u_m = K / S_m, S_m = K + sum_y
    e_m(y); two opinions are combined by the reduced rule of Dempster,

        b = (b_1 b_2 + b_1 u_2 + b_2 u_1) / (1 - C),  u = u_1 u_2 / (1 - C),

    C the conflict. As b(y) / u = e(y) / K, this is the product above: in any order, and neutral
    towards a modality without evidence, so that one that is absent is simply left out. h_m: see
    `DecisionFusion`; e_m, the loss of the combination and of each modality: see
    `mk.heads.Dirichlet` and `mk.heads.Decision(combine="dempster")`.
    `assemble` makes a `Dirichlet` of a `Classifier`; other heads have no evidence and are refused.

    Deviations: the towers; the weight of the KL term is constant (see `mk.heads.Dirichlet`).

    When to use it: classification where the answer must say how sure it is, and where a
    modality may be noise in some samples: the uncertainty is u = K / sum_y exp(output(y)).

    Cost: see `DecisionFusion`; the rule itself is O(M K) per sample for K classes.

    Returns (see `Fusion`):
        tokens (B, M, D): one per modality, with the mask of those that decide.
    """

    combine = "dempster"
