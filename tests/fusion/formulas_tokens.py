"""The simple, gated, attention and token-transformer fusions in float64 NumPy."""

import numpy as np

from tests.fusion.formulas import means, projected
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


def whole(x):
    """A mask that is true everywhere."""
    return np.ones(x.shape[:2], bool)


def everywhere(vectors, batch):
    return np.repeat(vectors, batch, axis=0)


def batch_of(inputs):
    return len(next(iter(inputs.values()))["mask"])


def led(vectors, tokens, mask):
    """A sequence behind vectors that are always there."""
    vectors = everywhere(vectors, len(tokens)) if len(vectors) == 1 else vectors
    return (
        np.concatenate([vectors, tokens], axis=1),
        np.concatenate([whole(vectors), mask], axis=1),
    )


def streams(layer, inputs, w, first):
    """Per modality its sequence behind its own learned token."""
    tokens, masks = projected(layer, inputs, w)
    both = {m: led(w[f"{m}_{first}"], tokens[m], masks[m]) for m in layer.modalities}
    return {m: x for m, (x, _) in both.items()}, {m: mask for m, (_, mask) in both.items()}


def one_sequence(layer, inputs, w, types):
    """All tokens in a row, each with the vector of its modality."""
    tokens, masks = projected(layer, inputs, w)
    parts = [tokens[m] + t for m, t in zip(layer.modalities, types, strict=True)]
    mask = np.concatenate([masks[m] for m in layer.modalities], axis=1)
    return np.concatenate(parts, axis=1), mask


def others(layer, m):
    return [n for n in layer.modalities if n != m]


# Vectors ----------------------------------------------------------------------------------------


def stacked(layer, inputs, w):
    x = means(layer, inputs, w)
    return np.stack([x[m] for m in layer.modalities], axis=1)


def sums(layer, inputs, w):
    """pooled = sum_m x_m."""
    x = stacked(layer, inputs, w)
    return {"tokens": x, "mask": whole(x), "pooled": sum(x[:, i] for i in range(x.shape[1]))}


def max_pooling(layer, inputs, w):
    """pooled = max_m x_m."""
    x = stacked(layer, inputs, w)
    return {"tokens": x, "mask": whole(x), "pooled": np.sort(x, axis=1)[:, -1]}


def mlp(layer, inputs, w):
    """h_i = gelu(W_i norm(h_(i-1))), pooled = W h_L."""
    x = stacked(layer, inputs, w)
    h = x.reshape(len(x), -1)
    for i in range(layer.num_layers):
        h = gelu(dense(layer_norm(h), under(w, f"hidden{i}")))
    return {"tokens": x, "mask": whole(x), "pooled": dense(h, under(w, "out"))}


def deep_sets(layer, inputs, w):
    """pooled = rho(sum_(m present) phi(x_m + e_m)); of all where none is present."""
    x = stacked(layer, inputs, w)
    mask, phi, pooled = whole(x), [], []
    for row in range(len(x)):
        there = [bool(inputs[m]["mask"][row].any()) for m in layer.modalities]
        mask[row] = there if any(there) else True
        h = gelu(dense(x[row] + w["types"], under(w, "phi_in")))
        phi.append(dense(h, under(w, "phi_out")))
        total = phi[-1][mask[row]].sum(axis=0)
        pooled.append(dense(gelu(dense(total, under(w, "rho_in"))), under(w, "rho_out")))
    return {"tokens": np.stack(phi) * mask[:, :, None], "mask": mask, "pooled": np.stack(pooled)}


def squeeze_excitation(layer, inputs, w):
    """g_m = 2 sigmoid(W_m W [x_1; ...; x_M]); tokens times g_m; pooled = mean_m g_m x_m."""
    tokens, masks = projected(layer, inputs, w)
    x = stacked(layer, inputs, w)
    z = dense(x.reshape(len(x), -1), under(w, "squeeze"))
    excited = [
        2.0 * sigmoid(dense(z, under(w, f"{m}_gate")))[:, None] * tokens[m]
        for m in layer.modalities
    ]
    masks = [masks[m] for m in layer.modalities]
    pooled = [masked_mean(e, mask) for e, mask in zip(excited, masks, strict=True)]
    return {
        "tokens": np.concatenate(excited, axis=1),
        "mask": np.concatenate(masks, axis=1),
        "pooled": np.mean(pooled, axis=0),
    }


def highway(layer, inputs, w):
    """z_0 = W [x_1; ...; x_M], z_i = t relu(H z) + (1 - t) z, t = sigmoid(T z)."""
    x = stacked(layer, inputs, w)
    z = dense(x.reshape(len(x), -1), under(w, "mix"))
    for i in range(layer.num_layers):
        t = sigmoid(dense(z, under(w, f"gate{i}")))
        z = t * np.maximum(dense(z, under(w, f"value{i}")), 0.0) + (1.0 - t) * z
    return {"tokens": x, "mask": whole(x), "pooled": z}


# Attention --------------------------------------------------------------------------------------


def attention_pooling(layer, inputs, w):
    """Queries attend to [nothing; all tokens]; pooled = mean of the normalised queries."""
    context, seen = led(w["nothing"], *one_sequence(layer, inputs, w, [0.0] * len(inputs)))
    x = everywhere(w["queries"], len(context))
    for i in range(layer.num_layers):
        x = transformer_block(x, seen, layer.num_heads, under(w, f"block{i}"), context)
    x = layer_norm(x, under(w, "norm"))
    return {"tokens": x, "mask": whole(x), "pooled": x.mean(axis=1)}


def co_attention(layer, inputs, w):
    """C_mn = tanh(X_m W_mn X_n^T), H_m = tanh(X_m W_m + sum_n C_mn X_n W_n), v_m = a_m X_m."""
    x, mask = streams(layer, inputs, w, "first")
    order = list(layer.modalities)
    v = np.zeros((batch_of(inputs), len(order), layer.hidden_dim))
    for row in range(len(v)):
        real = {m: x[m][row][mask[m][row]] for m in order}
        value = {m: real[m] @ w[f"{m}_value/kernel"] for m in order}
        for i, m in enumerate(order):
            h = value[m]
            for j, n in enumerate(order):
                if j > i:
                    h = h + np.tanh(real[m] @ w[f"{m}_{n}_affinity/kernel"] @ real[n].T) @ value[n]
                if j < i:
                    c = np.tanh(real[n] @ w[f"{n}_{m}_affinity/kernel"] @ real[m].T)
                    h = h + c.T @ value[n]
            a = softmax((np.tanh(h) @ w[f"{m}_score/kernel"])[:, 0])
            v[row, i] = a @ real[m]
    pooled = np.tanh(dense(v.sum(axis=1), under(w, "out")))
    return {"tokens": v, "mask": whole(v), "pooled": pooled}


def pairwise_cross_attention(layer, inputs, w):
    """v_ab = mean of the tokens of a after attending to b; pooled = W [..., v_ab, ...]."""
    tokens, masks = projected(layer, inputs, w)
    context, seen = streams(layer, inputs, w, "first")
    vectors = []
    for a in layer.modalities:
        for b in others(layer, a):
            x = tokens[a]
            for i in range(layer.num_layers):
                block = under(w, f"{a}_from_{b}_block{i}")
                x = transformer_block(x, seen[b], layer.num_heads, block, context[b])
            vectors.append(masked_mean(layer_norm(x, under(w, "norm")), masks[a]))
    x = np.stack(vectors, axis=1)
    pooled = dense(np.concatenate(vectors, axis=1), under(w, "out"))
    return {"tokens": x, "mask": whole(x), "pooled": pooled}


def mult(layer, inputs, w):
    """Z_ab: X_a attends to X_b; self-attention over [Z_ab, ...]; pooled = sum_a W_a (its first)."""
    x, seen = streams(layer, inputs, w, "first")
    ends = []
    for a in layer.modalities:
        parts = []
        for b in others(layer, a):
            z = x[a]
            for i in range(layer.num_layers):
                block = under(w, f"{a}_from_{b}_block{i}")
                z = transformer_block(z, seen[b], layer.num_heads, block, x[b])
            parts.append(z)
        z = np.concatenate(parts, axis=2)
        for i in range(layer.memory_layers):
            z = transformer_block(z, seen[a], layer.num_heads, under(w, f"{a}_memory{i}"))
        z = layer_norm(z, under(w, f"{a}_norm"))
        ends.append(dense(z[:, 0], under(w, f"{a}_out")))
    h = np.stack(ends, axis=1)
    return {"tokens": h, "mask": whole(h), "pooled": h.sum(axis=1)}


def hierarchical_attention(layer, inputs, w):
    """s_m = sum_t a_mt x_mt, pooled = sum_m b_m s_m; logits u . tanh(W x + c)."""

    def pool(x, hidden, score):
        logits = np.tanh(dense(x, under(w, hidden))) @ w[f"{score}/kernel"]
        return softmax(logits[:, 0]) @ x

    x, mask = streams(layer, inputs, w, "first")
    s = np.stack(
        [
            [pool(x[m][row][mask[m][row]], f"{m}_hidden", f"{m}_score") for m in layer.modalities]
            for row in range(batch_of(inputs))
        ]
    )
    pooled = np.stack([pool(row, "hidden", "score") for row in s])
    return {"tokens": s, "mask": whole(s), "pooled": pooled}


# Token transformers -----------------------------------------------------------------------------


def early_transformer(layer, inputs, w):
    """x = norm([CLS; x_m + positions_m + type_m]), blocks, pooled = tanh(W norm([CLS]))."""
    places = [w["types"][i] + w[f"{m}_positions/table"] for i, m in enumerate(layer.modalities)]
    x, mask = led(w["cls"], *one_sequence(layer, inputs, w, places))
    x = layer_norm(x, under(w, "embedding_norm"))
    for i in range(layer.num_layers):
        x = transformer_block(x, mask, layer.num_heads, under(w, f"block{i}"))
    x = layer_norm(x, under(w, "norm"))
    pooled = np.tanh(dense(x[:, 0], under(w, "pooler")))
    return {"tokens": x * mask[:, :, None], "mask": mask, "pooled": pooled}


def ends_first(layer, x, mask):
    """The [CLS]_m of all modalities, then the rest of each."""
    order = layer.modalities
    ends = np.stack([x[m][:, 0] for m in order], axis=1)
    rest = np.concatenate([x[m][:, 1:] for m in order], axis=1)
    return led(ends, rest, np.concatenate([mask[m][:, 1:] for m in order], axis=1))


def mean_of_ends(layer, x, mask, w):
    x = layer_norm(x, under(w, "norm"))
    pooled = x[:, : len(layer.modalities)].mean(axis=1)
    return {"tokens": x * mask[:, :, None], "mask": mask, "pooled": pooled}


def mid_transformer(layer, inputs, w):
    """Blocks per modality up to `fusion_layer`, joint ones above; pooled = mean of the [CLS]_m."""
    x, mask = streams(layer, inputs, w, "cls")
    for m in layer.modalities:
        for i in range(layer.fusion_layer):
            block = under(w, f"{m}_block{i}")
            x[m] = transformer_block(x[m], mask[m], layer.num_heads, block)
    x, mask = ends_first(layer, x, mask)
    for i in range(layer.fusion_layer, layer.num_layers):
        x = transformer_block(x, mask, layer.num_heads, under(w, f"block{i}"))
    return mean_of_ends(layer, x, mask, w)


def bottleneck(layer, inputs, w):
    """Blocks per modality over its tokens and the shared ones, which are averaged after each."""
    x, mask = streams(layer, inputs, w, "cls")
    shared = everywhere(w["bottleneck"], batch_of(inputs))
    for i in range(layer.num_layers):
        written = []
        for m in layer.modalities:
            block, length = under(w, f"{m}_block{i}"), x[m].shape[1]
            z, seen = x[m], mask[m]
            if i >= layer.fusion_layer:
                z = np.concatenate([z, shared], axis=1)
                seen = np.concatenate([seen, whole(shared)], axis=1)
            z = transformer_block(z, seen, layer.num_heads, block)
            x[m] = z[:, :length]
            written.append(z[:, length:])
        if i >= layer.fusion_layer:
            shared = np.mean(written, axis=0)
    return mean_of_ends(layer, *ends_first(layer, x, mask), w)


def perceiver_resampler(layer, inputs, w):
    """Latents attend to [tokens; latents]; pooled = mean of the normalised latents."""
    tokens, mask = one_sequence(layer, inputs, w, w["types"])
    x = everywhere(w["latents"], len(tokens))
    for i in range(layer.num_layers):
        context = np.concatenate([tokens, x], axis=1)
        seen = np.concatenate([mask, whole(x)], axis=1)
        x = transformer_block(x, seen, layer.num_heads, under(w, f"block{i}"), context)
    x = layer_norm(x, under(w, "norm"))
    return {"tokens": x, "mask": whole(x), "pooled": x.mean(axis=1)}


def q_former(layer, inputs, w):
    """Queries attend to each other, in every n-th block also to [nothing; tokens]."""
    context, seen = led(w["nothing"], *one_sequence(layer, inputs, w, w["types"]))
    x = everywhere(w["queries"], len(context))
    for i in range(layer.num_layers):
        x = transformer_block(x, whole(x), layer.num_heads, under(w, f"block{i}"))
        if i % layer.cross_every == 0:
            x = transformer_block(x, seen, layer.num_heads, under(w, f"cross{i}"), context)
    x = layer_norm(x, under(w, "norm"))
    return {"tokens": x, "mask": whole(x), "pooled": x.mean(axis=1)}


FORMULAS = {
    "attention_pooling": attention_pooling,
    "bottleneck": bottleneck,
    "co_attention": co_attention,
    "deep_sets": deep_sets,
    "early_transformer": early_transformer,
    "hierarchical_attention": hierarchical_attention,
    "highway": highway,
    "max_pooling": max_pooling,
    "mid_transformer": mid_transformer,
    "mlp": mlp,
    "mult": mult,
    "pairwise_cross_attention": pairwise_cross_attention,
    "perceiver_resampler": perceiver_resampler,
    "q_former": q_former,
    "squeeze_excitation": squeeze_excitation,
    "sum": sums,
}
VARIANTS = [
    ("attention_pooling", {"num_queries": 3, "num_layers": 2}),
    ("bottleneck", {"num_layers": 3, "fusion_layer": 1, "num_bottlenecks": 2}),
    ("deep_sets", {"intermediate_dim": 5}),
    ("early_transformer", {"num_layers": 1, "num_heads": 2}),
    ("highway", {"num_layers": 1}),
    ("mid_transformer", {"num_layers": 3, "fusion_layer": 2}),
    ("mlp", {"num_layers": 1, "intermediate_dim": 5}),
    ("mult", {"num_layers": 2, "memory_layers": 2, "num_heads": 2}),
    ("perceiver_resampler", {"num_latents": 1, "num_layers": 1}),
    ("q_former", {"num_queries": 2, "cross_every": 1}),
    ("squeeze_excitation", {"ratio": 2}),
]
