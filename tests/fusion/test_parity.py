"""Every fusion against the formula of its docstring in float64 NumPy, with random masks."""

import numpy as np
import pytest

from mmkeras.fusion import FUSIONS
from tests import contract
from tests.fusion import formulas_bilinear, formulas_probabilistic, formulas_tokens
from tests.fusion.formulas import means, projected
from tests.fusion.inputs import HIDDEN, NAMES, random_inputs
from tests.layers.formulas import (
    dense,
    gelu,
    gelu_tanh,
    layer_norm,
    masked_mean,
    sigmoid,
    softmax,
    transformer_block,
    under,
    weights_of,
)

TOLERANCE = 1e-5  # measured: at most 6.2e-6, on values of up to 19


def per_modality(layer, stacked):
    return {"tokens": stacked, "mask": np.ones(stacked.shape[:2], bool)}


def concatenation(layer, inputs, w):
    """pooled = W2 gelu(W1 [x_1; ...; x_M]); tokens: the x_m."""
    x = means(layer, inputs, w)
    together = np.concatenate([x[m] for m in layer.modalities], axis=1)
    pooled = dense(gelu(dense(together, under(w, "mix"))), under(w, "out"))
    return {**per_modality(layer, np.stack(list(x.values()), axis=1)), "pooled": pooled}


def gated(layer, inputs, w):
    """pooled = sum z_m * h_m, h_m = tanh(W_m x_m), z_m = sigmoid(V_m [x_1; ...; x_M])."""
    x = means(layer, inputs, w)
    together = np.concatenate([x[m] for m in layer.modalities], axis=1)
    parts = [
        sigmoid(dense(together, under(w, f"{m}_gate")))
        * np.tanh(dense(x[m], under(w, f"{m}_value")))
        for m in layer.modalities
    ]
    return {**per_modality(layer, np.stack(parts, axis=1)), "pooled": sum(parts)}


def weighted_sum(layer, inputs, w):
    """pooled = sum a_m h_m, a = softmax of the logits of the present modalities (all if none)."""
    x = means(layer, inputs, w)
    h = np.stack([dense(x[m], under(w, f"{m}_value")) for m in layer.modalities], axis=1)
    pooled = []
    for row in range(len(h)):
        there = np.array([inputs[m]["mask"][row].any() for m in layer.modalities])
        there = there if there.any() else ~there
        pooled.append(softmax(w["logits"][there]) @ h[row][there])
    return {**per_modality(layer, h), "pooled": np.stack(pooled)}


def film(layer, inputs, w):
    """x + gelu((1 + gamma) norm(W_b gelu(W_a x)) + beta); pooled = W [mean(x); max(x)]."""
    tokens, masks = projected(layer, inputs, w)
    x, mask = tokens[layer.target], masks[layer.target]
    others = [m for m in layer.modalities if m != layer.target]
    c = np.concatenate([masked_mean(tokens[m], masks[m]) for m in others], axis=1)
    for i in range(layer.num_layers):
        gamma, beta = np.split(dense(c, under(w, f"film{i}"))[:, None], 2, axis=-1)
        h = gelu(dense(x, under(w, f"before{i}")))
        x = x + gelu_tanh((1.0 + gamma) * layer_norm(dense(h, under(w, f"inside{i}"))) + beta)
    top = np.stack([row[m].max(axis=0) for row, m in zip(x, mask, strict=True)])
    pooled = dense(np.concatenate([masked_mean(x, mask), top], axis=1), under(w, "out"))
    return {"tokens": x * mask[:, :, None], "mask": mask, "pooled": pooled}


def cross_attention(layer, inputs, w):
    """Blocks in which the query's tokens attend to the others'; pooled = mean of the norm."""
    tokens, masks = projected(layer, inputs, w)
    others = [m for m in layer.modalities if m != layer.query]
    x, mask = tokens[layer.query], masks[layer.query]
    nothing = np.repeat(w["nothing"], len(x), axis=0)
    context = np.concatenate([nothing, *(tokens[m] for m in others)], axis=1)
    seen = np.concatenate([np.ones((len(x), 1), bool), *(masks[m] for m in others)], axis=1)
    for i in range(layer.num_layers):
        x = transformer_block(x, seen, layer.num_heads, under(w, f"block{i}"), context)
    x = layer_norm(x, under(w, "norm"))
    return {"tokens": x * mask[:, :, None], "mask": mask, "pooled": masked_mean(x, mask)}


def late_transformer(layer, inputs, w):
    """Self-attention over [CLS] and the tokens + type embeddings; pooled = the normalised [CLS]."""
    tokens, masks = projected(layer, inputs, w)
    batch = len(inputs[layer.modalities[0]]["mask"])
    parts, mask = [np.repeat(w["cls"], batch, axis=0)], [np.ones((batch, 1), bool)]
    for i, m in enumerate(layer.modalities):
        parts.append(tokens[m] + w["types"][i])
        mask.append(masks[m])
    x, mask = np.concatenate(parts, axis=1), np.concatenate(mask, axis=1)
    for i in range(layer.num_layers):
        x = transformer_block(x, mask, layer.num_heads, under(w, f"block{i}"))
    x = layer_norm(x, under(w, "norm"))
    return {"tokens": x * mask[:, :, None], "mask": mask, "pooled": x[:, 0]}


FORMULAS = {
    "concatenation": concatenation,
    "cross_attention": cross_attention,
    "film": film,
    "gated": gated,
    "late_transformer": late_transformer,
    "weighted_sum": weighted_sum,
    **formulas_bilinear.FORMULAS,
    **formulas_probabilistic.FORMULAS,
    **formulas_tokens.FORMULAS,
}
VARIANTS = [
    *((name, {}) for name in FORMULAS),
    ("film", {"target": "text", "num_layers": 3}),
    ("cross_attention", {"query": "numbers", "num_layers": 2, "num_heads": 2}),
    ("late_transformer", {"num_layers": 1, "num_heads": 8, "intermediate_dim": 5}),
    *formulas_bilinear.VARIANTS,
    *formulas_probabilistic.VARIANTS,
    *formulas_tokens.VARIANTS,
]


def test_every_fusion_has_a_formula():
    assert set(FORMULAS) == set(FUSIONS)


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], ("numbers", "text")], ids="-".join)
@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_parity(name, arguments, names):
    layer = FUSIONS[name](names, hidden_dim=HIDDEN, name="unit", **arguments)
    for seed in range(2):
        inputs = random_inputs(np.random.default_rng(seed), names)
        layer(inputs)
        contract.randomize(layer.weights, seed=seed + 10)
        found = contract.as_numpy(layer(inputs))
        if layer.losses:
            found["losses"] = layer.losses
        expected = FORMULAS[name](layer, inputs, weights_of(layer))
        contract.assert_close(found, expected, TOLERANCE)


@pytest.mark.parametrize("name", FORMULAS)
def test_all_weights_enter_the_formula(name):
    """Changing any one weight changes the formula, so that parity covers every weight."""
    layer = FUSIONS[name](NAMES, hidden_dim=HIDDEN, name="unit")
    inputs = random_inputs(np.random.default_rng(0))
    layer(inputs)
    contract.randomize(layer.weights)
    w = weights_of(layer)
    expected = FORMULAS[name](layer, inputs, w)
    for path in w:
        changed = {**w, path: w[path] + np.random.default_rng(1).standard_normal(w[path].shape)}
        other = FORMULAS[name](layer, inputs, changed)
        assert not all(np.allclose(other[k], expected[k], atol=1e-9) for k in other), path
