"""LoRA and DoRA: a low-rank change of the kernel of a layer that is built already.

Hu et al. 2021 (LoRA): W' = W + (alpha / r) A B, A of (inputs, r), B of (r, outputs), B = 0 at the
start. Liu et al. 2024 (DoRA): W' = m (V / ||V||), V the kernel of LoRA, ||.|| over the inputs of
each output, m = ||W|| at the start; ||V|| is a constant for the gradient (their section 4.3).

Deviations: the kernel is changed, not the output, which is the same without LoRA's dropout (there
is none). A kernel of more axes (the heads of an attention) counts as the matrix from all its input
axes to all its output axes, as in the papers; Keras' own `enable_lora` factors the last axis alone
(r is then at most the width of a head, and B is shared by the heads), and has no DoRA.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

KERNELS = {
    keras.layers.Dense: "kernel",
    keras.layers.EinsumDense: "kernel",
    keras.layers.Embedding: "embeddings",
}
"""What can be adapted -> name of its matrix."""


@dataclass(frozen=True)
class Change:
    """Arguments of `adapt`."""

    rank: int
    alpha: float
    dora: bool


class LowRank:
    """Mixin in front of a class of `KERNELS`; its instances are made by `adapt`.

    A file of the model (`.keras`, `.weights.h5`, SavedModel) is that of the plain layer with the
    merged kernel.
    """

    def changed(self, kernel: Any) -> Any:
        """Returns the kernel with the change, in its shape and in the compute dtype."""
        about = self.low_rank
        kernel = ops.convert_to_tensor(kernel)
        change = ops.matmul(self.lora_a, self.lora_b) * about.alpha / about.rank
        order, inner = _axes(self)
        whole = ops.transpose(kernel, order)
        whole = whole + ops.cast(ops.reshape(change, whole.shape), kernel.dtype)
        if about.dora:
            flat = ops.cast(ops.reshape(whole, (inner, -1)), "float32")
            norm = ops.stop_gradient(_norm(flat))
            magnitude = ops.cast(self.lora_magnitude, "float32")
            whole = ops.cast(ops.reshape(flat * (magnitude / norm), whole.shape), kernel.dtype)
        back = [order.index(axis) for axis in range(len(order))]
        return ops.transpose(whole, back)

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables of the plain layer, the kernel merged."""
        held: dict[str, Any] = {}
        super().save_own_variables(held)
        for key, value in {**held, "0": getattr(self, _matrix(self))}.items():
            store[key] = value

    def load_own_variables(self, store: Any) -> None:
        """Refuses: a file holds the merged kernel, to which the change would be added again."""
        raise ValueError(
            f"Weights can be loaded into plain layers only. Received: {self.name!r}, which has "
            "adapters. Call mk.training.merge_adapters(model) first, or load before "
            "mk.training.lora(...)."
        )


class _LowRankKernel(LowRank):
    @property
    def kernel(self) -> Any:
        return self.changed(super().kernel)


class _LowRankEmbedding(LowRank):
    @property
    def embeddings(self) -> Any:
        return self.changed(super().embeddings)


def adapt(layer: keras.layers.Layer, rank: int, alpha: float, dora: bool) -> None:
    """Gives a built layer its low-rank change; its outputs are as before until B is trained.

    An Embedding starts with A = 0 and B random, so that only rows that occur are changed.

    Args:
        layer: of a class of `KERNELS`, free to take new weights.
        rank: r.
        alpha: scale of the change, over r.
        dora: whether the magnitude is a weight of its own.
    """
    _, inner = _axes(layer)
    base = layer.weights[0]
    outer = math.prod(base.shape) // inner
    rows = _matrix(layer) == "embeddings"
    first, second = ("zeros", "random_normal") if rows else ("he_uniform", "zeros")
    layer.lora_a = layer.add_weight(shape=(inner, rank), initializer=first, name="lora_a")
    layer.lora_b = layer.add_weight(shape=(rank, outer), initializer=second, name="lora_b")
    if dora:
        whole = ops.reshape(ops.transpose(base, _axes(layer)[0]), (inner, outer))
        norm = ops.convert_to_numpy(_norm(ops.cast(whole, "float32")))
        layer.lora_magnitude = layer.add_weight(
            shape=(outer,), initializer=lambda shape, dtype: norm, name="lora_magnitude"
        )
    layer.low_rank = Change(rank, alpha, dora)  # no dict, which Keras would track for good
    mixin = _LowRankEmbedding if rows else _LowRankKernel
    cls = type(layer)
    # Under the name of the plain class, which is what a saved model is made of.
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    layer.__class__ = type(cls.__name__, (mixin, cls), names)


def plain(layer: keras.layers.Layer) -> None:
    """Undoes `adapt` and keeps what it learnt: the kernel is the changed one from here on."""
    layer.weights[0].assign(ops.convert_to_tensor(getattr(layer, _matrix(layer))))
    layer.__class__ = type(layer).__bases__[1]
    for name in ("lora_a", "lora_b", "lora_magnitude"):
        if hasattr(layer, name):
            delattr(layer, name)
    del layer.low_rank


def own(layer: keras.layers.Layer) -> list:
    """Returns the weights of the change: A, B and the magnitude."""
    return [w for w in layer.weights if w.name.startswith("lora_")]


def adaptable(layer: keras.layers.Layer) -> bool:
    """Whether `adapt` takes a layer."""
    return isinstance(layer, tuple(KERNELS)) and layer.built and not layer.quantization_mode


def _matrix(layer: keras.layers.Layer) -> str:
    return next(name for cls, name in KERNELS.items() if isinstance(layer, cls))


def _norm(flat: Any) -> Any:
    """Length of each column of (inputs, outputs); a column of zeros has 1e-12."""
    return ops.maximum(ops.sqrt(ops.sum(ops.square(flat), axis=0)), 1e-12)


def _axes(layer: keras.layers.Layer) -> tuple[list[int], int]:
    """Order that puts the kernel's input axes first, and the number of inputs."""
    shape = layer.weights[0].shape
    equation = getattr(layer, "equation", None)
    if equation is None:
        return [0, 1], shape[0]
    inputs, kernel, outputs = equation.replace("->", ",").split(",")
    contracted = [i for i, axis in enumerate(kernel) if axis in inputs and axis not in outputs]
    free = [i for i, axis in enumerate(kernel) if axis in outputs and axis not in inputs]
    if len(contracted) + len(free) != len(kernel):
        raise ValueError(
            "An EinsumDense can be adapted when its kernel maps inputs to outputs. Received: "
            f"{layer.name!r} with the equation {equation!r}. Leave it out of the patterns."
        )
    return contracted + free, math.prod(shape[i] for i in contracted)
