"""The weights and FLOPs that the docstrings state, counted in the layer and in its graph."""

import math

import keras
import pytest
import tensorflow as tf

from mmkeras.fusion import FUSIONS
from mmkeras.heads import Classifier, Decision, Dirichlet

M, T, D = 3, 150, 32
NAMES = ("image", "text", "sound")
STEPS = 20  # T of memory_fusion, whose recurrence is unrolled
N = 8  # queries, latents
B = 4  # bottleneck tokens


def self_block(t):
    return 16 * t * D**2 + 4 * t**2 * D


def cross_block(t, s):
    return 12 * t * D**2 + 4 * s * D**2 + 4 * t * s * D


PAIRS = M * (M - 1)
VECTORS = {  # weights of the matrices by the layer; FLOPs are twice as many
    "block": lambda f: (
        M * (D * f.num_blocks * f.block_dim + f.num_blocks * f.rank * f.block_dim**2)
        + f.num_blocks * f.block_dim * D
    ),
    "concatenation": lambda f: (M + 1) * D**2,
    "gated": lambda f: (M + M**2) * D**2,
    "low_rank": lambda f: M * f.rank * D**2,
    "mfb": lambda f: M * D * f.factors * f.pool_dim + f.pool_dim * D,
    "mfh": lambda f: f.num_blocks * (M * D * f.factors * f.pool_dim + f.pool_dim * D),
    "mlb": lambda f: M * D * f.rank + f.rank * D,
    "mutan": lambda f: M * (D * f.tucker_dim + f.rank * f.tucker_dim**2) + f.tucker_dim * D,
    "tensor_fusion": lambda f: M * D * f.tensor_dim + (f.tensor_dim + 1) ** M * D + D**2,
    "weighted_sum": lambda f: M * D**2,
}
WEIGHTS = {
    "attention_pooling": 8 * D**2,
    "bottleneck": 8 * 2 * M * D**2,
    "co_attention": (M + PAIRS // 2 + 1) * D**2,
    "cross_attention": 8 * D**2,
    "deep_sets": 8 * D**2,
    "early_transformer": (8 * 2 + 1) * D**2,
    "film": 2 * (2 * D**2 + 2 * (M - 1) * D**2) + 2 * D**2,
    "hierarchical_attention": (M + 1) * D**2,
    "highway": (M + 2 * 2) * D**2,
    "late_averaging": M * D**2,
    "late_transformer": 8 * 2 * D**2,
    "max_pooling": 0,
    "memory_fusion": (18 * M + M + 4) * D**2,
    "mid_transformer": 8 * (M + 1) * D**2,
    "mixture_of_experts": 2 * M * D**2 + M**2 * D,
    "mlp": (2 * M + 4 * 2 + 2) * D**2,
    "mult": 8 * PAIRS * D**2 + 8 * M * (M - 1) ** 2 * D**2 + PAIRS * D**2,
    "pairwise_cross_attention": PAIRS * (8 + 1) * D**2,
    "perceiver_resampler": 8 * 2 * D**2,
    "product_of_experts": 2 * M * D**2,
    "q_former": 8 * (2 + 1) * D**2,
    "shared_private": (3 * M + 10) * D**2,
    "squeeze_excitation": 2 * M**2 * D**2 // 4,
    "stacking": M * D**2,
    "sum": 0,
    "trusted": M * D**2,
    "voting": M * D**2,
}
FLOPS = {
    "attention_pooling": cross_block(1, M * T),
    "bottleneck": 2 * M * self_block(T + B),
    "co_attention": M * (M + 1) * T * D**2 + 3 * PAIRS * T**2 * D,
    "cross_attention": 4 * (M + 2) * T * D**2 + 4 * (M - 1) * T**2 * D,
    "deep_sets": 8 * (M + 1) * D**2,
    "early_transformer": 2 * self_block(M * T),
    "film": 2 * (4 * T * D**2 + 4 * (M - 1) * D**2) + 4 * D**2,
    "hierarchical_attention": 2 * M * (T + 1) * D**2,
    "highway": 2 * WEIGHTS["highway"],
    "late_averaging": 2 * M * D**2,
    "late_transformer": 2 * self_block(M * T),
    "max_pooling": 0,
    "memory_fusion": (STEPS + 1) * (36 * M + 6) * D**2,
    "mid_transformer": 16 * 2 * M * T * D**2 + 4 * (M + M**2) * T**2 * D,
    "mixture_of_experts": 2 * WEIGHTS["mixture_of_experts"],
    "mlp": 2 * WEIGHTS["mlp"],
    "mult": PAIRS * (16 * T * D**2 + 4 * T**2 * D)
    + M * (16 * T * (M - 1) ** 2 * D**2 + 4 * T**2 * (M - 1) * D),
    "pairwise_cross_attention": PAIRS * (16 * T * D**2 + 4 * T**2 * D),
    "perceiver_resampler": 2 * (16 * N * D**2 + 4 * M * T * D**2 + 4 * N * (M * T + N) * D),
    "product_of_experts": 4 * M * D**2,
    "q_former": 2 * self_block(N) + cross_block(N, M * T),
    "shared_private": 42 * M * D**2 + 16 * M**2 * D,
    "squeeze_excitation": M**2 * D**2,
    "stacking": 2 * M * D**2,
    "sum": 0,
    "trusted": 2 * M * D**2,
    "voting": 2 * M * D**2,
}


def products(graph):
    """FLOPs of the matrix products of a graph with static shapes."""
    total = 0
    for op in graph.get_operations():
        sizes = [tuple(x.shape) for x in op.inputs]
        if op.type in ("MatMul", "BatchMatMulV2"):
            turned = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
            total += 2 * math.prod(op.outputs[0].shape) * sizes[0][-2 if turned else -1]
        if op.type == "Einsum":
            labels = op.get_attr("equation").decode().split("->")[0].split(",")
            axes = {
                k: n
                for part, size in zip(labels, sizes, strict=True)
                for k, n in zip(part, size, strict=True)
            }
            total += 2 * math.prod(axes.values())
    return total


def built(name, length):
    """A layer, and the FLOPs of the matrix products beside the projections of the base class."""
    layer = FUSIONS[name](NAMES, hidden_dim=D)
    inputs = {
        m: {"tokens": tf.TensorSpec((1, length, 5)), "mask": tf.TensorSpec((1, length), tf.bool)}
        for m in NAMES
    }
    layer.build(keras.tree.map_structure(lambda spec: tuple(spec.shape), inputs))
    for part in layer._flatten_layers():
        if isinstance(part, keras.layers.RNN):
            part.unroll = True  # of a loop the graph holds one turn
    graph = tf.function(lambda x: layer(x), autograph=False).get_concrete_function(inputs).graph
    return layer, products(graph) - 2 * M * length * 5 * D


@pytest.mark.parametrize("name", VECTORS)
def test_costs_of_fusions_of_vectors_are_those_of_the_docstring(name):
    layer, found = built(name, 4)
    weights = VECTORS[name](layer)
    kernels = [w for w in layer.weights if w.name == "kernel" or w.name.endswith("_core")]
    assert sum(math.prod(w.shape) for w in kernels) - M * 5 * D == weights
    assert found == pytest.approx(2 * weights, rel=0.01)


@pytest.mark.parametrize("name", WEIGHTS)
def test_costs_are_those_of_the_docstring(name):
    layer, counted = built(name, STEPS if name == "memory_fusion" else T)
    matrices = ("kernel", "recurrent")
    kernels = [w for w in layer.weights if w.name in matrices and w.shape[-1] > 1]
    found = sum(math.prod(w.shape) for w in kernels)
    assert found - M * 5 * D == WEIGHTS[name]
    assert counted == pytest.approx(FLOPS[name], rel=0.06)


@pytest.mark.parametrize("combine", ["mean", "vote", "stack", "dempster"])
def test_costs_of_the_decisions_are_those_of_the_docstring(combine):
    """M heads of K classes; the meta-learner of `stacking`; no matrix in any other rule."""
    classes = [f"c{i}" for i in range(40)]
    k = len(classes)
    layer = Decision((Dirichlet if combine == "dempster" else Classifier)(classes), combine)
    fused = {
        "tokens": tf.TensorSpec((1, M, D)),
        "mask": tf.TensorSpec((1, M), tf.bool),
        "pooled": tf.TensorSpec((1, D)),
    }
    layer.build({name: tuple(spec.shape) for name, spec in fused.items()})
    meta = combine == "stack"
    assert layer.count_params() == M * (D * k + k) + meta * (M * k**2 + M * k + k)
    graph = tf.function(lambda x: layer(x), autograph=False).get_concrete_function(fused).graph
    assert products(graph) == pytest.approx(2 * M * D * k + meta * 2 * M * k**2, rel=0.02)
