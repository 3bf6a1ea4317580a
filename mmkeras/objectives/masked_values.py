"""Masked patches of pictures and masked frames of sounds and series: a light decoder of numbers."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers import (
    HideSpans,
    KeepTokens,
    LogMel,
    PatchTargets,
    SpanTargets,
    TransformerBlock,
)
from mmkeras.objectives.masked import Masked
from mmkeras.objectives.rows import summed


class MaskedValues(Masked):
    """Predicts the numbers of hidden units: squared error, the mean over the hidden ones; a base.

    The decoder has a learned query per unit; in each block the queries attend to what the encoder
    (with `cross`, the fusion) returns of what was left to see, and a dense layer makes the numbers.
    It attends to no other query, so that it is light and reads any encoder or fusion, whatever its
    tokens are (as in CrossMAE, Fu et al. 2024, arXiv 2401.14391). It is not part of what is taken
    out for finetuning.

    Args:
        modality, rate, cross, num_heads, seed: see `Masked`.
        hidden_dim, num_layers: of the decoder.

    Returns (see `RowObjective`):
        (B, 2) float32; a unit's loss is the mean over its real numbers. A modality that is absent
        counts for nothing.
    """

    own = ("hidden_dim", "num_layers")

    def __init__(
        self, modality: str, *, hidden_dim: int = 64, num_layers: int = 1, **kwargs: Any
    ) -> None:
        """Stores the arguments."""
        super().__init__(modality, **kwargs)
        self.hidden_dim = checks.whole("hidden_dim", hidden_dim)
        self.num_layers = checks.whole("num_layers", num_layers)

    def decode(self, parts: Any, encoded: Mapping, **given: Any) -> Any:
        """Calls the layer on what the encoder saw, or on the fusion of it with the rest."""
        seen = encoded
        if self.cross:
            seen = parts.fuse(parts.replaced(self.modality, encoded))
        return self({"tokens": seen["tokens"], "mask": seen["mask"], **given})

    def build(self, input_shape: Mapping[str, tuple]) -> None:
        """Builds the decoder for N units of P numbers."""
        _, count, size = input_shape["target"]
        dim = self.hidden_dim
        self.project = keras.layers.Dense(dim, name="project", dtype="float32")
        self.project.build(input_shape["tokens"])
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.queries = self.add_weight((1, count, dim), normal, name="queries")
        self.blocks = [
            TransformerBlock(self.num_heads, 2 * dim, cross=True, name=f"block{i}", dtype="float32")
            for i in range(self.num_layers)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype="float32")
        self.numbers = keras.layers.Dense(size, name="numbers", dtype="float32")
        for layer in (*self.blocks, self.norm, self.numbers):
            layer.build((None, None, dim))

    def call(self, given: Mapping[str, Any], training: bool = False) -> Any:
        """Returns sum and count of each row."""
        return squared_error(
            self.predict_units(given), **{k: given.get(k) for k in ("target", "hidden", "real")}
        )

    def predict_units(self, given: Mapping[str, Any]) -> Any:
        """Returns the numbers of every unit: (B, N, P)."""
        seen = self.project(given["tokens"])
        shape = (ops.shape(seen)[0], *self.queries.shape[1:])
        x = ops.broadcast_to(ops.convert_to_tensor(self.queries), shape)
        for block in self.blocks:
            x = block(x, given["mask"], seen)
        return self.numbers(self.norm(x))


def squared_error(predicted: Any, target: Any, hidden: Any, real: Any = None) -> Any:
    """Sums over a row's hidden units of the mean squared error of their real numbers.

    Args:
        predicted, target: float32 (B, N, P).
        hidden: bool (B, N).
        real: bool (B, N, P); None for all.

    Returns:
        (B, 2): sums and counts.
    """
    errors = ops.square(predicted - target)
    if real is None:
        return summed(ops.mean(errors, axis=-1), hidden)
    count = ops.sum(ops.cast(real, "float32"), axis=-1)
    errors = ops.sum(ops.where(real, errors, 0.0), axis=-1) / ops.maximum(count, 1.0)
    return summed(errors, hidden & (count > 0))


@register
class MaskedPatches(MaskedValues):
    """A masked autoencoder of pictures (He et al. 2022, arXiv 2111.06377).

    The encoder sees a random quarter of the patches, always as many, so that the step is compiled
    once and costs a quarter; the target is each hidden patch standardised over its own pixels
    (`mk.layers.PatchTargets`). Deviations: the decoder (`MaskedValues`); 1 block where the paper
    has 8.

    Args:
        modality: name of a picture whose encoder is 'vit'.
        normalize: whether each patch is standardised; the paper has both, and see `PatchTargets`.
        rate, cross, num_heads, seed, hidden_dim, num_layers: see `MaskedValues`.
    """

    own = (*MaskedValues.own, "normalize")

    def __init__(
        self, modality: str, *, rate: float = 0.75, normalize: bool = True, **kwargs: Any
    ) -> None:
        """Stores the arguments."""
        super().__init__(modality, rate=rate, **kwargs)
        self.normalize = bool(normalize)

    @property
    def halved(self) -> tuple[str, ...]:
        """The encoder is entered after its positions."""
        return (self.modality,)

    def connect(self, parts: Any) -> Any:
        """Leaves patches out, encodes the others and predicts; see `mmkeras.models.parts`."""
        m = self.modality
        parts.spec(m, "image")
        x, mask = parts.embedded(m)
        keep = max(1, int((1.0 - self.rate) * x.shape[1] + 0.5))
        if keep >= x.shape[1]:
            raise ValueError(
                "A patch must be hidden, or there is nothing to predict. Received: rate="
                f"{self.rate:g} of the {x.shape[1]} patches of {m!r}, which hides none. Raise "
                "`rate`, or give the encoder a smaller `patch`."
            )
        masking = KeepTokens(keep, seed=self.seed, name=f"{self.name}_masking")
        x, mask, hidden = masking(x, mask)
        targets = PatchTargets(parts.patch(m), self.normalize, name=f"{self.name}_targets")
        return self.decode(
            parts, parts.trunk(m, x, mask), hidden=hidden, target=targets(parts.inputs[m])
        )


@register
class MaskedFrames(MaskedValues):
    """Predicts hidden spans of a sound (its log-mel frames) or of a series or vector with steps.

    Spans are hidden behind the modality's mask, before anything is computed of them, so that no
    convolution or window can look into them and any encoder will do. Masked acoustic modelling of
    spans (Liu et al. 2020, Mockingjay, arXiv 1910.12638) with the hidden part left out as in
    masked autoencoders (Huang et al. 2022, arXiv 2207.06405); the target is not standardised per
    span. The outermost frames of a hidden span share a part of their windows with what is seen.

    Args:
        modality: name of an `Audio`, a `Series`, or a `Vector` with steps.
        frames: log-mel frames, or steps, of a span.
        rate, cross, num_heads, seed, hidden_dim, num_layers: see `MaskedValues`.
    """

    own = (*MaskedValues.own, "frames")

    def __init__(self, modality: str, *, frames: int = 4, rate: float = 0.5, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(modality, rate=rate, **kwargs)
        self.frames = checks.whole("frames", frames)

    def connect(self, parts: Any) -> Any:
        """Hides spans, encodes the rest and predicts; see `mmkeras.models.parts`."""
        m, spec = self.modality, parts.spec(self.modality, "audio", "series", "vector")
        value, mask = parts.inputs[m], parts.inputs[f"{m}_mask"]
        if len(mask.shape) != 2:
            raise ValueError(f"Spans need steps. Received: {spec} for {m!r}. Give it `steps`.")
        target, real, span = value, mask, self.frames
        if spec.kind == "audio":
            log_mel = LogMel(
                spec.rate_hz,
                num_bands=spec.num_bands,
                window_seconds=spec.window_seconds,
                hop_seconds=spec.hop_seconds,
                name=f"{self.name}_log_mel",
            )
            target, real = log_mel(value, mask)
            span = self.frames * log_mel.hop
        hide = HideSpans(span, rate=self.rate, seed=self.seed, name=f"{self.name}_masking")
        seen, hidden = hide(mask)
        spans = hidden.shape[1]
        if not self.cross and max(1, int(self.rate * spans + 0.5)) >= spans:
            raise ValueError(
                "A span must be left to see, or nothing is known of what is hidden. Received: "
                f"rate={self.rate:g} of the {spans} spans of {m!r}, which hides all. Lower `rate` "
                "or `frames`, or let other modalities help with `cross=True`."
            )
        targets = SpanTargets(self.frames, hidden.shape[1], name=f"{self.name}_targets")
        target, real = targets(target, real)
        encoded = parts.encode(m, value, seen)
        return self.decode(parts, encoded, hidden=hidden, target=target, real=real)
