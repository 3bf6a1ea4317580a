"""The parts of a model while it is made: what an objective may read, and run again."""

from collections.abc import Mapping
from typing import Any

from mmkeras.core import Modality
from mmkeras.core.identifiers import nearest
from mmkeras.encoders.halves import halves
from mmkeras.objectives import Contrastive, Objective

Encoded = Mapping[str, Any]


class Parts:
    """Symbolic tensors and layers of a model.

    Attributes:
        inputs: by name, value and mask of every modality.
        read: "encoded" and "raw" -> modality -> what its model returns, after the alignment.
        outputs: by name of the head, as far as they are made.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        inputs: Mapping[str, Any],
        models: Mapping[str, Mapping],
        placed: Mapping[str, Any],
        align: Any,
        heads: Mapping[str, Any],
    ) -> None:
        """Encodes every modality."""
        self.modalities, self.inputs, self.outputs = modalities, inputs, {}
        self._models, self._placed, self._align, self._heads = models, placed, align, heads
        self._halves = {}
        for head in heads.values():
            for name in head.halved if isinstance(head, Objective) else ():
                self.spec(name, "image")
                self._halves[name] = halves(name, models[name]["encoded"])
        self.read: dict[str, dict] = {}
        for name in modalities:
            for key in models[name]:
                value, mask = inputs[name], inputs[f"{name}_mask"]
                self.read.setdefault(key, {})[name] = self.encode(name, value, mask, key)
        self._before = self.read.get("encoded", {})
        if align is not None:
            self.read["encoded"] = align(self._before)

    @property
    def encoded(self) -> dict[str, Encoded]:
        """What the encoders (else the raw units) make of each modality, after the alignment."""
        given = self.read.get("encoded") or self.read["raw"]
        return {m: {k: given[m][k] for k in ("tokens", "mask")} for m in self.modalities}

    def spec(self, name: str, *kinds: str) -> Modality:
        """Returns the spec of a modality, or raises ValueError unless it is one of the kinds."""
        if name not in self.modalities:
            known = nearest(name, self.modalities)
            raise ValueError(f"Unknown modality {name!r} in an objective. {known}")
        spec = self.modalities[name]
        if spec.kind not in kinds or "encoded" not in self._models[name]:
            raise ValueError(
                f"The objective hides a part of a modality of the kind {' or '.join(kinds)} that "
                f"has an encoder. Received: {name!r}, {spec}. Name another."
            )
        return spec

    def encode(self, name: str, value: Any, mask: Any, key: str = "encoded") -> Encoded:
        """Runs the encoder of a modality on something else than its input."""
        given = {name: value, f"{name}_mask": mask}
        if key == "encoded" and name in self._halves:
            return self.trunk(name, **self._halves[name][0](given))
        return self._models[name][key](given)

    def embedded(self, name: str) -> tuple[Any, Any]:
        """Patches with positions (B, T, D) and their mask, of a modality that is `halved`."""
        out = self._halves[name][0]({k: self.inputs[k] for k in (name, f"{name}_mask")})
        return out["embedded"], out["mask"]

    def trunk(self, name: str, embedded: Any, mask: Any) -> Encoded:
        """Runs the rest of an encoder that is `halved`."""
        tokens = self._halves[name][1]({"embedded": embedded, "mask": mask})
        return {"tokens": tokens, "mask": mask}

    def patch(self, name: str) -> int:
        """Pixels on each side of a patch."""
        return self._halves[name][0].get_layer(f"{name}_patches").kernel_size[0]

    def replaced(self, name: str, encoded: Encoded) -> dict[str, Encoded]:
        """As `encoded`, with something else in place of one modality."""
        given = {**self._before, name: encoded}
        given = self._align(given) if self._align is not None else given
        return {m: {k: given[m][k] for k in ("tokens", "mask")} for m in self.modalities}

    def fuse(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Runs the fusion on other tokens of all modalities; it has to read tokens alone."""
        if set(self._placed) != {"tokens"}:
            raise ValueError(
                "An objective that runs the fusion again needs one that reads tokens. Received: a "
                f"fusion at {sorted(self._placed)}. Take e.g. fusion='late_transformer'."
            )
        return self._placed["tokens"].layer(encoded)

    def embeddings(self, name: str) -> tuple[Any, tuple[str, ...]]:
        """Returns the output of a contrastive objective, and the modalities in its order."""
        if name not in self.outputs or not isinstance(self._heads[name], Contrastive):
            raise ValueError(
                f"{name!r} must be a contrastive objective that stands before the one that reads "
                f"it. Received: {list(self.outputs)} so far. Put it first among the heads: "
                f"{{{name!r}: mk.objectives.Contrastive(), ...}}."
            )
        return self.outputs[name], self._heads[name].modalities
