"""The probabilistic, decision-level, memory and factorised fusions in float64 NumPy."""

import itertools

import numpy as np

from tests.fusion import formulas
from tests.layers.formulas import (
    dense,
    gelu,
    layer_norm,
    masked_mean,
    sigmoid,
    softmax,
    transformer_block,
    under,
)


def means(layer, inputs, w):
    """(B, M, D)."""
    return np.stack(list(formulas.means(layer, inputs, w).values()), axis=1)


def there(layer, inputs):
    """(B, M): the present modalities, or all where none is."""
    present = np.stack([inputs[m]["mask"].any(axis=1) for m in layer.modalities], axis=1)
    return np.where(present.any(axis=1, keepdims=True), present, True), present


def each(layer, x, w, end):
    """A dense layer per modality, on (B, M, D)."""
    parts = enumerate(layer.modalities)
    return np.stack([dense(x[:, i], under(w, f"{m}{end}")) for i, m in parts], axis=1)


def product_of_experts(layer, inputs, w):
    """The mean of N(0, 1) prod N(mu_m, 1 / t_m), from its precisions."""
    x, (mask, _) = means(layer, inputs, w), there(layer, inputs)
    mean, precision = each(layer, x, w, "_mean"), np.exp(each(layer, x, w, "_log_precision"))
    precision = precision * mask[:, :, None]
    pooled = (precision * mean).sum(axis=1) / (1.0 + precision.sum(axis=1))
    return {"tokens": mean * mask[:, :, None], "mask": mask, "pooled": pooled}


def mixture_of_experts(layer, inputs, w):
    """sum g_m E_m(x_m), g the softmax of the gate over the modalities that are there."""
    x, (mask, _) = means(layer, inputs, w), there(layer, inputs)
    said = each(layer, gelu(each(layer, x, w, "_inner")), w, "_outer")
    gate = dense(x.reshape(len(x), -1), under(w, "gate"))
    pooled = [softmax(g[m]) @ s[m] for g, s, m in zip(gate, said, mask, strict=True)]
    return {"tokens": said * mask[:, :, None], "mask": mask, "pooled": np.stack(pooled)}


def decisions(layer, inputs, w):
    """h_m = gelu(W_m x_m + b_m); pooled: their mean."""
    mask, _ = there(layer, inputs)
    h = gelu(each(layer, means(layer, inputs, w), w, "_tower"))
    return {"tokens": h * mask[:, :, None], "mask": mask, "pooled": masked_mean(h, mask)}


def memory_fusion(layer, inputs, w):
    """Sample by sample and step by step, an absent modality or step being left out."""
    tokens, masks = formulas.projected(layer, inputs, w)
    steps = max(mask.shape[1] for mask in masks.values())
    cell, dim = under(w, "recurrence/cell"), layer.hidden_dim

    def attention(x):
        hidden = np.maximum(dense(x, under(cell, "attend_in")), 0.0)
        return softmax(dense(hidden, under(cell, "attend_out")))

    def gate(name, x):
        i = ("keep", "write", "update").index(name)
        hidden = np.maximum(dense(x, under(cell, "gates_in")), 0.0)
        return dense(hidden[i * dim : (i + 1) * dim], under(cell, name))

    def at(m, row, t):
        """Token and mask of a step; one token goes with every step, the last is the absent one."""
        if masks[m].shape[1] == 2:
            t = 0 if t < steps - 1 else 1
        return tokens[m][row, t], masks[m][row, t]

    memories, seen, pooled = [], [], []
    for row in range(len(masks[layer.modalities[0]])):
        h = {m: np.zeros(dim) for m in layer.modalities}
        c, u = dict(h), np.zeros(dim)
        for t in range(steps):
            before = dict(c)
            present = [m for m in layer.modalities if at(m, row, t)[1]]
            for m in present:
                i = layer.modalities.index(m)
                gates = dense(at(m, row, t)[0], under(w, f"{m}_entry"))
                enter, forget, candidate, leave = [
                    part + h[m] @ cell["recurrent"][i][:, k]
                    for k, part in enumerate(np.split(gates, 4))
                ]
                c[m] = sigmoid(forget + 1.0) * c[m] + sigmoid(enter) * np.tanh(candidate)
                h[m] = sigmoid(leave) * np.tanh(c[m])
            if present:
                both = np.concatenate([*before.values(), *c.values()])
                both = both * attention(both)
                u = sigmoid(gate("keep", both)) * u
                u = u + sigmoid(gate("write", both)) * np.tanh(gate("update", both))
            memories.append(u if present else np.zeros(dim))
            seen.append(bool(present))
        pooled.append(dense(np.concatenate([*h.values(), u]), under(w, "out")))
    return {
        "tokens": np.reshape(memories, (-1, steps, dim)),
        "mask": np.reshape(seen, (-1, steps)),
        "pooled": np.stack(pooled),
    }


def shared_private(layer, inputs, w):
    """The block over private and shared vectors, and the three losses, sample by sample."""
    u, (_, present) = layer_norm(means(layer, inputs, w)), there(layer, inputs)
    shared = sigmoid(dense(u, under(w, "shared")))
    private = sigmoid(each(layer, u, w, "_private"))
    x = np.concatenate([private, shared], axis=1)
    mask = np.ones(x.shape[:2], bool)
    x = transformer_block(x, mask, layer.num_heads, under(w, "block"), normalize_first=False)
    found = dense(shared + private, under(w, "decoder"))
    totals = np.zeros(3)
    for row in range(len(u)):
        ones = np.flatnonzero(present[row])
        pairs = list(itertools.combinations(ones, 2))
        s, p = shared[row], private[row]
        apart = [((s[m] - s[n]) ** 2).mean() for m, n in pairs]
        alike = [np.corrcoef(s[m], p[m])[0, 1] ** 2 for m in ones]
        alike += [np.corrcoef(p[m], p[n])[0, 1] ** 2 for m, n in pairs]
        wrong = [((u[row, m] - found[row, m]) ** 2).mean() for m in ones]
        totals += [np.mean(v) if v else 0.0 for v in (apart, alike, wrong)]
    weights = np.array([layer.similarity, layer.difference, layer.reconstruction])
    pooled = dense(x.reshape(len(x), -1), under(w, "out"))
    losses = list(weights * totals / len(u))
    return {"tokens": x, "mask": mask, "pooled": pooled, "losses": losses}


FORMULAS = {
    "late_averaging": decisions,
    "memory_fusion": memory_fusion,
    "mixture_of_experts": mixture_of_experts,
    "product_of_experts": product_of_experts,
    "shared_private": shared_private,
    "stacking": decisions,
    "trusted": decisions,
    "voting": decisions,
}
VARIANTS = [("shared_private", {"num_heads": 4, "similarity": 0.5, "difference": 2.0})]
