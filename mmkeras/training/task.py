"""What the runs of a comparison or a search share: data, encoders, heads, recipe."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mmkeras.data.dataset import Data
from mmkeras.data.drop import rates_of
from mmkeras.models import graph, reads_encoders
from mmkeras.training import recipe as recipes
from mmkeras.training.model import Model
from mmkeras.training.runtime import seed as set_seeds

MODEL = {"hidden_dim": 64, "dropout": 0.1, "jit": False}
"""What the recipe of such runs holds beside that of a training."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Checked arguments of `mk.compare` and `mk.training.search`.

    Attributes:
        data: `mk.data.table(...)`.
        encoders, heads: as of `assemble`, nothing finished: every run makes its own.
        recipe: of `mmkeras.training.recipe` and `MODEL`, complete.
        splits: where models are evaluated.
    """

    data: Data
    encoders: dict[str, Any]
    heads: dict[str, keras.layers.Layer]
    recipe: dict[str, Any]
    splits: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return self.data.train(self.recipe["batch"]).steps

    def of(self, names: Sequence[str], seed: int) -> "Task":
        """Returns the task of some modalities, with the order and augmentation of a seed."""
        parts = {name: self.data.modalities[name] for name in names}
        return dataclasses.replace(
            self, data=dataclasses.replace(self.data, modalities=parts, seed=seed)
        )

    def build(self, fusion: Any, hidden_dim: int, encoders: Mapping | None = None) -> Model:
        """Returns a new model with copies of the heads; with these encoders, where given.

        A fusion of raw features gets none.
        """
        heads = {
            name: type(head).from_config({**head.get_config(), "name": name})
            for name, head in self.heads.items()
        }
        given = {**self.encoders, **(encoders or {})}
        given = given if reads_encoders(fusion, tuple(self.data.modalities)) else {}
        inputs, outputs = graph(
            self.data.modalities,
            {name: part for name, part in given.items() if name in self.data.modalities},
            fusion,
            heads,
            hidden_dim=hidden_dim,
            dropout=self.recipe["dropout"],
        )
        return Model(inputs, outputs, name="multimodal")

    def run(
        self, fusion: Any, hidden_dim: int, callbacks: Sequence = ()
    ) -> tuple[Model, list[float], dict]:
        """Builds and trains a model with the seed of the data.

        Returns:
            The model, the losses of its epochs, and split -> metric -> value after the last.
        """
        keras.backend.clear_session()
        set_seeds(self.data.seed)
        model = self.build(fusion, hidden_dim)
        history = recipes.train(model, self.data, self.numbers, callbacks=callbacks, verbose=0)
        values = {
            split: model.evaluate(self.data.batches(split, 256), return_dict=True, verbose=0)
            for split in self.splits
        }
        return model, history.history["loss"], values

    @property
    def numbers(self) -> dict[str, Any]:
        """The recipe of the training alone, of the modalities that there are."""
        own = {key for key in MODEL if key not in recipes.OPTIONAL}
        found = {key: value for key, value in self.recipe.items() if key not in own}
        if isinstance(found.get("drop"), Mapping):
            rates = {name: found["drop"].get(name, 0.0) for name in self.data.modalities}
            found["drop"] = rates
        return found


def checked(
    data: Any,
    encoders: Mapping[str, Any] | None,
    heads: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None,
    splits: Sequence[str],
) -> Task:
    """Returns the task, or raises with the way out."""
    if not isinstance(data, Data):
        raise TypeError(f"`data` must be mk.data.table(...). Received: {type(data).__name__}.")
    for split in splits:
        data._split(split)
    for name, encoder in (encoders or {}).items():
        check_new(f"encoder of {name!r}", encoder)
    for name, head in (heads or {}).items():
        if not isinstance(head, keras.layers.Layer) or head.built:
            raise ValueError(
                f"The head {name!r} must be a new layer, of which every run gets a copy. "
                f"Received: {head!r}. Make it anew: mk.heads.Classifier(data.classes)."
            )
    numbers = recipes.checked(recipe, MODEL)
    rates_of(numbers.get("drop"), data.modalities)
    return Task(data, dict(encoders or {}), dict(heads or {}), numbers, tuple(splits))


def check_new(what: str, part: Any) -> None:
    """Raises for a finished layer, whose weights all runs would share."""
    for one in keras.tree.flatten(part):
        if not isinstance(one, keras.layers.Layer):
            continue
        raise TypeError(
            f"The {what} must be made anew by every run. Received: the finished layer "
            f"{one.name!r}. Pass a name, a dict {{'name': ..., **arguments}}, a class of fusion, "
            "or for an encoder a function `(name, modality) -> keras.Model`."
        )
