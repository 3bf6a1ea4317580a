"""Every modality is pooled by an attention that the others guide."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.sequences import attend, check_two, in_front, learned


@register
class CoAttentionFusion(Fusion):
    """pooled = tanh(W sum_m v_m), v_m the tokens X_m pooled by attention that the others guide.

    Parallel co-attention (Lu et al. 2016, arXiv 1606.00061, equations 3 to 5, at one level), not
    the co-attentional transformer of ViLBERT (for that, see `pairwise_cross_attention` and
    `mult`):

        C_mn = tanh(X_m W_mn X_n^T), one W_mn per pair, C_nm = C_mn^T
        H_m = tanh(X_m W_m + sum_(n != m) C_mn X_n W_n)
        a_m = softmax(H_m w_m), v_m = sum_t a_mt X_mt

    Deviations: any number of modalities, the paper's two where M = 2; the width of H is D; each
    X_m begins with one learned token that is always there, so that a modality of one vector is
    weighed too. Absent modalities are represented by their learned tokens. Dropout acts on the
    v_m.

    Cost: (M + M (M - 1) / 2 + 1) D^2 weights; M (M + 1) T D^2 + 3 M (M - 1) T^2 D FLOPs. When to
    use it: for two or three sequences of tens of tokens, to find what in each answers the others,
    with far fewer weights than a transformer.

    Returns (see `Fusion`):
        tokens (B, M, D): the v_m.
    """

    def __init__(self, modalities: Sequence[str], **kwargs: Any) -> None:
        """Checks that there are two."""
        super().__init__(modalities, **kwargs)
        check_two("Co-attention", self.modalities, "attention_pooling")

    def build_fusion(self) -> None:
        """Builds a matrix per modality and per pair, and the last layer."""
        dim = self.hidden_dim
        self.first, self.values, self.scores = {}, {}, {}
        for m in self.modalities:
            self.first[m] = learned(self, f"{m}_first", 1, 1)
            self.values[m] = self.dense(f"{m}_value", dim, use_bias=False)
            self.scores[m] = self.dense(f"{m}_score", dim, 1, use_bias=False)
        self.pairs = {
            f"{m}_{n}": self.dense(f"{m}_{n}_affinity", dim, use_bias=False)
            for m, n in combinations(self.modalities, 2)
        }
        self.out = self.dense("out", dim, activation="tanh")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends to each modality, guided by the others."""
        x, seen = {}, {}
        for m in self.modalities:
            x[m], seen[m] = in_front(self.first[m], tokens[m], masks[m])
        values = {m: self.values[m](x[m]) for m in self.modalities}
        hidden = dict(values)
        for m, n in combinations(self.modalities, 2):
            left = self.pairs[f"{m}_{n}"](x[m])
            affinity = ops.tanh(ops.einsum("bsd,btd->bst", left, x[n]))  # zero behind the masks
            hidden[m] = hidden[m] + ops.einsum("bst,btd->bsd", affinity, values[n])
            hidden[n] = hidden[n] + ops.einsum("bst,bsd->btd", affinity, values[m])
        pooled = [
            attend(self.scores[m](ops.tanh(hidden[m]))[:, :, 0], x[m], seen[m])
            for m in self.modalities
        ]
        v = self.drop(ops.stack(pooled, axis=1), training=training)
        return {"tokens": v, "mask": ops.ones_like(present), "pooled": self.out(ops.sum(v, axis=1))}
