"""A head that decides on every modality and combines the decisions."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.heads.base import Head
from mmkeras.heads.classifier import Classifier
from mmkeras.heads.dirichlet import Dirichlet, dempster
from mmkeras.heads.pooling import mean_of, vote_of
from mmkeras.heads.truth import truth_of
from mmkeras.layers.masking import zero_masked

COMBINE = ("dempster", "mean", "stack", "vote")


@register
class Decision(Head):
    """Copies of a head decide on each of M tokens; what the present ones say is combined.

    With the fusions "late_averaging", "voting", "stacking" and "trusted", `assemble` wraps every
    head in one; by hand it goes with any fusion of one token per modality:

        fused = mk.fusion.VotingFusion(["image", "text"])(encoded)
        answer = mk.heads.Decision(mk.heads.Classifier(classes), "vote")(fused)

    The output, and the default loss and metrics, are those of the head.

    Losses: in `mmkeras.Model` the head's default loss of each present decision, summed, is added
    `part_weight` times, by sample weight as any loss (in training and in evaluation), so that no
    modality is left untrained behind a better one. It is not in `OUTPUT_loss`, but in `loss`.

    Args:
        head: such as `Classifier(classes)`; decision i is made by a new one with its arguments.
        combine: "mean": of the probabilities, or of a head's numbers; "vote": the majority, see
            `mmkeras.fusion.VotingFusion`; "stack": a linear meta-learner, see
            `mmkeras.fusion.StackingFusion`; "dempster": of the evidence of a `Dirichlet`, and of
            that alone, see `mmkeras.fusion.TrustedFusion`.
        part_weight: of the decisions' own losses.

    Call arguments:
        fused: what a fusion returns: tokens (B, M, D), M known, and the mask (B, M) of those who
            decide, at least one in each sample.
    """

    def __init__(
        self, head: Head, combine: str = "mean", *, part_weight: float = 1.0, **kwargs: Any
    ) -> None:
        """Stores the arguments; raises ValueError for a head whose decisions do not combine so."""
        super().__init__(**kwargs)
        self.combine = checks.one_of("combine", combine, COMBINE)
        self.part_weight = checks.real("part_weight", part_weight)
        self.head = type(check_head(head, combine)).from_config(head.get_config())
        self.units = head.units

    def build(self, input_shape: Mapping[str, tuple]) -> None:
        """Builds a copy of the head per token, and the meta-learner."""
        batch, count, dim = input_shape["tokens"]
        if count is None:
            raise ValueError(
                "A decision needs a fusion with a known number of tokens, one per modality. "
                f"Received: tokens {input_shape['tokens']}. Use fusion='late_averaging'."
            )
        one = {"tokens": (batch, 1, dim), "mask": (batch, 1), "pooled": (batch, dim)}
        self.decisions = []
        for i in range(count):
            config = {**self.head.get_config(), "name": f"decision{i}"}
            self.decisions.append(type(self.head).from_config(config))
            self.decisions[i].build(one)
        if self.combine == "stack":
            self.meta = keras.layers.Dense(self.units, name="meta", dtype="float32")
            self.meta.build((batch, count * (self.units + 1)))

    def call(self, fused: Mapping[str, Any], training: bool = False) -> Any:
        """Returns the combined decision, (B, units) float32."""
        tokens, mask = fused["tokens"], ops.cast(fused["mask"], "bool")
        made = []
        for i, decision in enumerate(self.decisions):
            one = {"tokens": tokens[:, i : i + 1], "mask": mask[:, i : i + 1]}
            made.append(decision({**one, "pooled": tokens[:, i]}, training=training))
        self._add_losses(made, mask)
        return self._combined(zero_masked(ops.stack(made, axis=1), mask), mask)

    def _combined(self, outputs: Any, mask: Any) -> Any:
        if self.combine == "dempster":
            return dempster(outputs, mask)
        there = ops.cast(mask, outputs.dtype)
        if self.combine == "stack":
            width = outputs.shape[1] * outputs.shape[2]
            flat = ops.reshape(outputs, (-1, width))
            return self.meta(ops.concatenate([flat, there], axis=1))
        weights = there / ops.maximum(ops.sum(there, axis=1, keepdims=True), 1.0)
        if not hasattr(self.head, "log_probabilities"):
            return ops.sum(weights[:, :, None] * outputs, axis=1)
        pool = {"mean": mean_of, "vote": vote_of}[self.combine]
        pooled = pool(self.head.log_probabilities(outputs), weights)
        return self.head.from_log_probabilities(pooled)

    def _add_losses(self, made: list, mask: Any) -> None:
        truth = truth_of(self.name)
        if truth is None or not self.part_weight or not hasattr(self.head, "default_loss"):
            return
        y, weights = truth
        y = ops.cast(y, "float32")
        loss = self.head.default_loss()
        each = ops.stack([loss.call(y, one) for one in made], axis=1)  # (B, M)
        total = ops.sum(zero_masked(each, mask), axis=1)
        if weights is not None:
            total = total * ops.cast(ops.reshape(weights, (-1,)), total.dtype)
        self.add_loss(self.part_weight * ops.mean(total))

    def compute_output_spec(self, fused: Mapping[str, Any], training: bool = False) -> Any:
        """(B, units) float32."""
        return keras.KerasTensor((fused["tokens"].shape[0], self.units), "float32")

    @property
    def default_loss(self) -> Any:
        """The head's."""
        return self.head.default_loss

    @property
    def default_metrics(self) -> Any:
        """The head's."""
        return self.head.default_metrics

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "head": keras.saving.serialize_keras_object(self.head),
            "combine": self.combine,
            "part_weight": self.part_weight,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Decision":
        """Returns the head of a config."""
        return cls(**{**config, "head": keras.saving.deserialize_keras_object(config["head"])})


def check_head(head: Any, combine: str) -> Head:
    """Returns the head, or raises: its decisions must be such as `combine` combines."""
    if not isinstance(head, Head) or isinstance(head, Decision):
        raise ValueError(
            "Decisions are made by a head such as mk.heads.Classifier(classes). Received: "
            f"{head!r}. A layer of one's own must be a subclass of mk.heads.Head."
        )
    if isinstance(head, Dirichlet) != (combine == "dempster"):
        raise ValueError(
            "Dempster's rule combines evidence, and nothing else does: combine='dempster' "
            "(fusion='trusted') goes with mk.heads.Dirichlet. Received: "
            f"{type(head).__name__} and combine={combine!r}."
        )
    if combine == "vote" and not hasattr(head, "log_probabilities"):
        raise ValueError(
            "Only classes can be voted for. Received: combine='vote' (fusion='voting') and "
            f"{type(head).__name__}. Use 'mean' (fusion='late_averaging')."
        )
    return head


def deciding(head: Any, combine: str) -> Head:
    """Returns the head of a model whose fusion combines decisions: a `Decision`.

    One that is a `Decision` already stays as it is; of a `Classifier` and "dempster" becomes a
    `Dirichlet`.
    """
    if isinstance(head, Decision):
        return head
    if combine == "dempster" and type(head) is Classifier:
        config = head.get_config()
        head = Dirichlet(config["classes"], dropout=config["dropout"])
    return Decision(head, combine)
