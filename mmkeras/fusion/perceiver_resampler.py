"""Any number of tokens become a few latent ones."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import in_front, join, learned, repeat
from mmkeras.fusion.transformer import TransformerFusion


@register
class PerceiverResamplerFusion(TransformerFusion):
    """N latents attend, layer by layer, to [tokens; latents]; pooled = mean of the normalised.

    The Perceiver resampler (Flamingo, Alayrac et al. 2022, arXiv 2204.14198, figure 5; after
    Perceiver, Jaegle et al. 2021): z = z + attention(z, [x; z]), z = z + mlp(z). The tokens x never
    change. A type embedding per modality takes the place of the paper's time embedding per frame;
    encoders give the positions. Deviations: GELU for the squared ReLU; among the keys the latents
    pass the norm of the context, in the paper one of their own; a norm in the end. Absent
    modalities are represented by their learned tokens.

    Cost: 8 L D^2 weights; L (16 N D^2 + 4 M T D^2 + 4 N (M T + N) D) FLOPs, linear in T. When to
    use it: for long or many sequences, in front of a decoder that wants a fixed number of tokens.

    Args:
        num_latents: N (the paper: 64).
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, N, D): the normalised latents.
    """

    def __init__(self, modalities: Sequence[str], *, num_latents: int = 8, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_latents = checks.whole("num_latents", num_latents)

    def build_fusion(self) -> None:
        """Builds the latents, the type embeddings and the blocks."""
        self.latents = learned(self, "latents", 1, self.num_latents)
        self.types = learned(self, "types", len(self.modalities))
        self.blocks = [self.block(f"block{i}", cross=True) for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Resamples."""
        x, mask = join(tokens, masks, self.modalities, self.types)
        latents = repeat(self.latents, x)
        for block in self.blocks:
            context, seen = in_front(latents, x, mask)
            latents = block(latents, seen, context, training=training)
        latents = self.norm(latents)
        mask = ops.ones_like(latents[:, :, 0], dtype="bool")
        return {"tokens": latents, "mask": mask, "pooled": ops.mean(latents, axis=1)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """N."""
        return self.num_latents

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_latents": self.num_latents}
