"""Whether two modalities belong together, with hard negatives of the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.random_masks import PRIME, RandomLayer
from mmkeras.objectives.partition import MASKED
from mmkeras.objectives.rows import RowObjective, summed


@register
class Matching(RowObjective):
    """Tells pairs that belong together from hard negatives: binary cross-entropy.

    Image-text matching of ALBEF (Li et al. 2021, arXiv 2107.07651, 3.2): for each sample one other
    item of the second modality is drawn, and one of the first, likelier the nearer its contrastive
    embedding is (`HardNegatives`); the fusion reads the true pair and the two false ones, and one
    dense layer on what it pools says which is which. The mean over the pairs that are there.

        heads = {
            "match": mk.objectives.Contrastive(),
            "pairing": mk.objectives.Matching("match", modalities=("image", "text")),
        }

    The negatives are of the replica's part of the batch (of the micro-batch), as in the paper: as
    with dropout, the numbers of several replicas or micro-batches are others than those of one.

    Args:
        embedded_by: name of the `Contrastive` objective, which must stand before this one.
        temperature: of the draw; 0.07, where CLIP and ALBEF begin (they use the learned one).
        seed: of the draw; None for one from the global seed.
        modalities: the two; all of the model's when None.

    Returns (see `RowObjective`):
        (B, 2) float32. A pair with an absent modality, and one for which no negative is there,
        counts for nothing.
    """

    def __init__(
        self,
        embedded_by: str,
        *,
        temperature: float = 0.07,
        seed: int | None = None,
        modalities: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.embedded_by = checks.identifier("embedded_by", embedded_by)
        self.temperature = checks.real("temperature", temperature, 1e-3)
        self.seed = seed

    def connect(self, parts: Any) -> Any:
        """Draws negatives, fuses all pairs and judges them; see `mmkeras.models.parts.Parts`."""
        embeddings, names = parts.embeddings(self.embedded_by)
        if len(self.modalities) != 2 or not set(self.modalities) <= set(names):
            raise ValueError(
                f"A pair has two modalities of {names}, which {self.embedded_by!r} embeds. "
                f"Received: {self.modalities}. Give `modalities=({names[0]!r}, {names[1]!r})`."
            )
        places = [names.index(m) for m in self.modalities]
        draw = HardNegatives(
            self.modalities,
            places,
            temperature=self.temperature,
            seed=self.seed,
            name=f"{self.name}_negatives",
        )
        pairs, valid = draw(embeddings, parts.encoded)
        return self({"tokens": parts.fuse(pairs)["pooled"], "valid": valid})

    def build(self, input_shape: Mapping[str, tuple]) -> None:
        """Builds the dense layer."""
        self.dense = keras.layers.Dense(1, name="dense", dtype="float32")
        self.dense.build(input_shape["tokens"])

    def call(self, given: Mapping[str, Any], training: bool = False) -> Any:
        """Returns sum and count of each row."""
        logits = ops.transpose(ops.reshape(self.dense(given["tokens"]), (3, -1)))
        truth = ops.convert_to_tensor([[1.0, 0.0, 0.0]], "float32")
        return summed(ops.softplus(logits) - truth * logits, given["valid"])

    def batch_of(self, given: Mapping[str, Any]) -> Any:
        """The number of pairs."""
        return given["valid"].shape[0]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {
            "embedded_by": self.embedded_by,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


@register
class HardNegatives(RandomLayer):
    """The pairs of a batch, and two sets of false ones, drawn by how near they are.

    With unit vectors a_i, b_j: P(j | i) = softmax_j(a_i . b_j / temperature) over the j != i whose
    two modalities are there, and of which neither b_j is b_i itself nor a_j is a_i (a product above
    1 - 1e-6, as of one sentence that describes several pictures: (a_i, b_j) and (a_j, b_i) would be
    true pairs); likewise for a. No gradient flows through the draw.

    Args:
        modalities: names of a and b.
        places: theirs among the embeddings.
        temperature: above 0.
        seed: see `RandomLayer`.

    Call arguments:
        embeddings: (B, M, D) unit vectors, zero where absent.
        encoded: `{name: {"tokens": (B, T, D), "mask": bool (B, T)}}`; all modalities of a sample
            but the one that is exchanged stay with it.

    Returns:
        `(pairs, valid)`: as `encoded` with 3 B rows: the true pairs, those with another b, those
        with another a; and bool (B, 3), which of them are there.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        places: Sequence[int],
        *,
        temperature: float = 0.07,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(**{"autocast": False, **kwargs})
        self.modalities = checks.modality_names(list(modalities))
        self.places = tuple(int(i) for i in places)
        self.temperature = checks.real("temperature", temperature, 1e-3)

    def call(self, embeddings: Any, encoded: Mapping, training: bool = False) -> tuple[dict, Any]:
        """Returns the pairs."""
        vectors = [ops.cast(embeddings[:, i], "float32") for i in self.places]
        there = [ops.any(v != 0, axis=-1) for v in vectors]
        both, size = there[0] & there[1], ops.shape(embeddings)[0]
        index = ops.arange(size, dtype="int32")
        near = ops.stop_gradient(ops.matmul(vectors[0], ops.transpose(vectors[1])))
        allowed = both[:, None] & both[None, :] & (index[:, None] != index[None, :])
        for v in vectors:
            gram = ops.stop_gradient(ops.matmul(v, ops.transpose(v)))
            length = ops.diagonal(gram)  # 1 but for the rounding of the product
            allowed &= gram <= ops.minimum(length[:, None], length[None, :]) - 1e-6
        scores = ((self.modalities[1], near), (self.modalities[0], ops.transpose(near)))
        drawn = {}
        for number, (m, z) in enumerate(scores):
            u = self.draw((size, size), training, number, index % PRIME)
            noise = -ops.log(-ops.log(ops.clip(u, 1e-7, 1 - 1e-7)))  # Gumbel: argmax is a draw
            score = ops.where(allowed, z / self.temperature + noise, MASKED)
            drawn[m] = ops.argmax(score, axis=1), ops.any(allowed, axis=1)
        pairs = {name: self._joined(name, part, drawn) for name, part in encoded.items()}
        a, b = self.modalities
        return pairs, ops.stack([both, drawn[b][1], drawn[a][1]], axis=1)

    def _joined(self, name: str, part: Mapping, drawn: Mapping) -> dict:
        """A modality of the true pairs, of those with another b, of those with another a."""

        def whole(x: Any) -> Any:
            parts = [ops.take(x, drawn[m][0], axis=0) if m == name else x for m in order]
            return ops.concatenate([x, *parts], axis=0)

        order = self.modalities[::-1]
        return {key: whole(part[key]) for key in ("tokens", "mask")}

    def compute_output_spec(
        self, embeddings: Any, encoded: Mapping, training: bool = False
    ) -> tuple[dict, Any]:
        """3 B rows, and (B, 3)."""
        batch = embeddings.shape[0]
        rows = None if batch is None else 3 * batch

        def longer(x: Any) -> keras.KerasTensor:
            return keras.KerasTensor((rows, *x.shape[1:]), x.dtype)

        pairs = {
            name: {k: longer(part[k]) for k in ("tokens", "mask")} for name, part in encoded.items()
        }
        return pairs, keras.KerasTensor((batch, 3), "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {"modalities": list(self.modalities), "places": list(self.places)}
        return {**super().get_config(), **own, "temperature": self.temperature}
