"""Attention within every modality, then over the modalities."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.sequences import attend, check_two, in_front, learned


@register
class HierarchicalAttentionFusion(Fusion):
    """s_m = sum_t a_mt x_mt within each modality, pooled = sum_m b_m s_m over them.

        a_m = softmax_t(u_m . tanh(W_m x_mt + c_m))
        b = softmax_m(u . tanh(W s_m + c))

    Hierarchical attention (Yang et al. 2016, NAACL, equations 5 to 10: words, then sentences),
    with one attention per modality and then one over them as in Libovicky & Helcl 2017 (arXiv
    1704.06567, their hierarchical combination). Deviations: no recurrent layers in between, the
    encoders have them; learned queries u_m and u in place of a decoder's state; every modality
    begins with one learned token that is always there, so that one of a single vector is weighed
    too. Absent modalities enter as their learned tokens: b may learn to pass them over. Dropout
    acts on the s_m.

    Cost: (M + 1) D^2 weights; 2 M (T + 1) D^2 FLOPs. When to use it: where a sample's answer is
    in one modality, and a reader wants to see in which (b) and where (a), at little cost.

    Returns (see `Fusion`):
        tokens (B, M, D): the s_m.
    """

    def __init__(self, modalities: Sequence[str], **kwargs: Any) -> None:
        """Checks that there are two."""
        super().__init__(modalities, **kwargs)
        check_two("Hierarchical attention", self.modalities, "attention_pooling")

    def build_fusion(self) -> None:
        """Builds the attentions."""
        dim = self.hidden_dim
        self.first, self.hidden, self.scores = {}, {}, {}
        for m in self.modalities:
            self.first[m] = learned(self, f"{m}_first", 1, 1)
            self.hidden[m] = self.dense(f"{m}_hidden", dim, activation="tanh")
            self.scores[m] = self.dense(f"{m}_score", dim, 1, use_bias=False)
        self.over = self.dense("hidden", dim, activation="tanh")
        self.over_score = self.dense("score", dim, 1, use_bias=False)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends within, then over."""
        summaries = []
        for m in self.modalities:
            x, mask = in_front(self.first[m], tokens[m], masks[m])
            logits = self.scores[m](self.hidden[m](x))[:, :, 0]
            summaries.append(attend(logits, x, mask))
        s = self.drop(ops.stack(summaries, axis=1), training=training)
        all_of_them = ops.ones_like(present)
        pooled = attend(self.over_score(self.over(s))[:, :, 0], s, all_of_them)
        return {"tokens": s, "mask": all_of_them, "pooled": pooled}
