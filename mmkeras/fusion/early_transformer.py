"""One transformer over the raw features of all modalities."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import check_shapes
from mmkeras.fusion.sequences import in_front, join, learned
from mmkeras.fusion.transformer import TransformerFusion
from mmkeras.layers import LearnedPositions


@register
class EarlyTransformerFusion(TransformerFusion):
    """Self-attention from the first layer over [CLS] and features + positions + type embeddings.

    x = norm([CLS; ...; x_m + positions_m + type_m; ...]), L blocks, pooled = tanh(W norm([CLS])).
    The single-stream transformer of VisualBERT (Li et al. 2019, arXiv 1908.03557) and ViLT (Kim et
    al. 2021, arXiv 2102.03334): features are embedded by one linear layer, the projection of the
    base class, and all that follows is joint. `late_transformer` has the same blocks; what differs
    is that here (1) each modality has learned positions, since nothing before has told the order
    of its tokens, (2) the embedded sequence is normalised, then dropped out, as in BERT, (3) [CLS]
    passes BERT's pooler, tanh(W x). So it stands in place of encoders: give it patches, word
    vectors, frames; after encoders of several layers, `late_transformer` says the same with less.
    Deviations: pre-norm blocks, as in ViLT; no pretraining. Absent modalities are represented by
    their learned tokens.

    Cost: (8 L + 1) D^2 + M T D weights; 16 L (M T) D^2 + 4 L (M T)^2 D FLOPs. When to use it: when
    the modalities should meet below what their encoders would keep, and there is data for L of 4
    and more.

    Args:
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, 1 + sum (T_m + 1), D), [CLS] first. T_m is that of the first call.
    """

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds the positions of each modality, then what all fusions have."""
        check_shapes(self.modalities, input_shape)
        self.positions = {}
        for m in self.modalities:
            shape = (None, input_shape[m]["tokens"][1] + 1, self.hidden_dim)
            self.positions[m] = LearnedPositions(
                shape[1], name=f"{m}_positions", dtype=self.dtype_policy
            )
            self.positions[m].build(shape)
        super().build(input_shape)

    def build_fusion(self) -> None:
        """Builds [CLS], the type embeddings, the blocks and the pooler."""
        self.cls = learned(self, "cls", 1, 1)
        self.types = learned(self, "types", len(self.modalities))
        self.embedding_norm = self.layer_norm("embedding_norm")
        self.blocks = [self.block(f"block{i}") for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")
        self.pooler = self.dense("pooler", self.hidden_dim, activation="tanh")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Embeds, attends, pools."""
        placed = {m: self._placed(m, tokens[m]) for m in self.modalities}
        x, mask = in_front(self.cls, *join(placed, masks, self.modalities, self.types))
        x = self.drop(self.embedding_norm(x), training=training)
        for block in self.blocks:
            x = block(x, mask, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": self.pooler(x[:, 0])}

    def _placed(self, m: str, tokens: Any) -> Any:
        """Adds positions; the absent token has the last one, however long the sequence is."""
        positions = self.positions[m]
        last = ops.cast(positions.table[-1:], tokens.dtype)
        return ops.concatenate([positions(tokens[:, :-1]), tokens[:, -1:] + last], axis=1)

    def output_length(self, lengths: dict[str, int]) -> int:
        """[CLS] and every modality's tokens with its absent token."""
        return 1 + sum(length + 1 for length in lengths.values())
