"""Every modality's channels weighed by what all modalities say."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.sequences import join
from mmkeras.layers import masked_mean


@register
class SqueezeExcitationFusion(Fusion):
    """The tokens of m times g_m = 2 sigmoid(W_m z), z = W [x_1; ...; x_M]; pooled = mean_m g_m x_m.

    The multimodal transfer module (MMTM, Joze et al. 2020, arXiv 1911.08670; after
    squeeze-and-excitation, Hu et al. 2018): x_m, the masked mean, squeezes modality m, z has
    M D / `ratio` channels, and g_m, around one, excites each of its channels at every token. As in
    the equations of MMTM z is linear, and the streams are averaged in the end. Deviations: one
    module behind the encoders instead of one behind each of their stages; an absent modality enters
    as its learned absent vector. Dropout acts on z.

    Cost: 2 M^2 D^2 / ratio weights; 4 M^2 D^2 / ratio + 2 M T D FLOPs. When to use it: before
    heads that read the tokens, and when one modality tells which features of another matter.

    Args:
        ratio: by how much z is narrower than the concatenation.

    Returns (see `Fusion`):
        tokens (B, sum (T_m + 1), D): the excited tokens.
    """

    def __init__(self, modalities: Sequence[str], *, ratio: int = 4, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.ratio = checks.whole("ratio", ratio)

    def build_fusion(self) -> None:
        """Builds the squeezing layer and a gate per modality."""
        width = len(self.modalities) * self.hidden_dim
        narrow = max(width // self.ratio, 1)
        self.squeeze = self.dense("squeeze", width, narrow)
        self.gates = {
            m: self.dense(f"{m}_gate", narrow, activation="sigmoid") for m in self.modalities
        }

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Squeezes and excites."""
        x = {m: masked_mean(tokens[m], masks[m]) for m in self.modalities}
        z = self.squeeze(ops.concatenate([x[m] for m in self.modalities], axis=1))
        z = self.drop(z, training=training)
        gates = {m: 2.0 * self.gates[m](z) for m in self.modalities}
        pooled = sum(gates[m] * x[m] for m in self.modalities) / len(self.modalities)
        excited = {m: gates[m][:, None] * tokens[m] for m in self.modalities}
        excited, mask = join(excited, masks, self.modalities)
        return {"tokens": excited, "mask": mask, "pooled": pooled}

    def output_length(self, lengths: dict[str, int]) -> int:
        """Every modality's tokens with its absent token."""
        return sum(length + 1 for length in lengths.values())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "ratio": self.ratio}
