"""The formulas of the bilinear and the conditional fusions, written with loops over samples."""

import numpy as np

from tests.fusion.formulas import means, projected
from tests.layers.formulas import dense, gelu, masked_mean, softmax, under


def one_token(pooled):
    mask = np.ones((len(pooled), 1), bool)
    return {"tokens": pooled[:, None], "mask": mask, "pooled": pooled}


def power_norm(x):
    """A signed square root and a division by the length, both soft near zero."""
    root = x / (x**2 + 0.01**2) ** 0.25
    return root / np.sqrt(np.linalg.norm(root, axis=-1, keepdims=True) ** 2 + 1e-3)


def unit_scale(x):
    """A division by the root of the mean square, softened as well."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-3)


def tensor_fusion(layer, inputs, w):
    """W_2 relu(W_1 vec([1; z_1] (x) ... (x) [1; z_M]) + b_1) + b_2."""
    x = means(layer, inputs, w)
    rows = []
    for row in range(len(next(iter(x.values())))):
        whole = np.ones(1)
        for m in layer.modalities:
            z = np.tanh(dense(x[m][row], under(w, f"{m}_narrow")))
            whole = np.kron(whole, np.concatenate([[1.0], z]))
        rows.append(whole)
    hidden = np.maximum(dense(np.stack(rows), under(w, "hidden")), 0.0)
    return one_token(dense(hidden, under(w, "out")))


def low_rank(layer, inputs, w):
    """The outer product of the [1; x_m] times a tensor of rank R, formed in full."""
    x = means(layer, inputs, w)
    rank, dim = layer.rank, layer.hidden_dim
    batch = len(next(iter(x.values())))
    pooled = np.tile(w["bias"], (batch, 1))
    for row in range(batch):
        for r in range(rank):
            for out in range(dim):
                value = np.ones(1)
                for m in layer.modalities:
                    f = under(w, f"{m}_factor")
                    column = r * dim + out
                    factor = np.concatenate([[f["bias"][column]], f["kernel"][:, column]])
                    value = value * (factor @ np.concatenate([[1.0], x[m][row]]))
                pooled[row, out] += w["ranks"][r] * value[0]
    return one_token(pooled)


def hadamard(layer, inputs, w, name):
    """u_1 * ... * u_M of the maps of that name, each scaled to one size."""
    x = means(layer, inputs, w)
    maps = [unit_scale(dense(x[m], under(w, f"{m}_{name}"))) for m in layer.modalities]
    return np.prod(np.stack(maps), axis=0)


def mlb(layer, inputs, w):
    """P (tanh(U_1 x_1) * ... * tanh(U_M x_M))."""
    x = means(layer, inputs, w)
    h = [np.tanh(dense(x[m], under(w, f"{m}_factor"))) for m in layer.modalities]
    return one_token(dense(np.prod(np.stack(h), axis=0), under(w, "out")))


def mfb(layer, inputs, w):
    """W norm(SumPool(u_1 * ... * u_M, k))."""
    wide = hadamard(layer, inputs, w, "wide")
    k = layer.factors
    z = np.stack([wide[:, i * k : (i + 1) * k].sum(axis=1) for i in range(layer.pool_dim)], axis=1)
    return one_token(dense(power_norm(z), under(w, "out")))


def mfh(layer, inputs, w):
    """The poolings of a product that grows from block to block."""
    e, blocks, k = 1.0, [], layer.factors
    for i in range(layer.num_blocks):
        e = e * hadamard(layer, inputs, w, f"wide{i}")
        z = [e[:, n * k : (n + 1) * k].sum(axis=1) for n in range(layer.pool_dim)]
        blocks.append(power_norm(np.stack(z, axis=1)))
    return one_token(dense(np.concatenate(blocks, axis=1), under(w, "out")))


def mutan(layer, inputs, w):
    """W_o mean_r prod_m (N_m,r tanh(W_m x_m))."""
    x = means(layer, inputs, w)
    y = {m: np.tanh(dense(x[m], under(w, f"{m}_side"))) for m in layer.modalities}
    z = 0.0
    for r in range(layer.rank):
        part = slice(r * layer.tucker_dim, (r + 1) * layer.tucker_dim)
        term = 1.0
        for m in layer.modalities:
            core = under(w, f"{m}_core")
            term = term * (y[m] @ core["kernel"][:, part] + core["bias"][part])
        z = z + term / layer.rank
    return one_token(dense(z, under(w, "out")))


def block(layer, inputs, w):
    """W_o of C normalised chunks, each sum_r prod_m (N_m,c,r y_m,c)."""
    x = means(layer, inputs, w)
    dim, chunks = layer.block_dim, []
    y = {m: dense(x[m], under(w, f"{m}_side")) for m in layer.modalities}
    for c in range(layer.num_blocks):
        factors = [
            unit_scale(y[m][:, c * dim : (c + 1) * dim] @ w[f"{m}_core"][c] + w[f"{m}_shift"][c])
            for m in layer.modalities
        ]
        z = 0.0
        for r in range(layer.rank):
            z = z + np.prod([f[:, r * dim : (r + 1) * dim] for f in factors], axis=0)
        chunks.append(power_norm(z))
    return one_token(dense(np.concatenate(chunks, axis=1), under(w, "out")))


def compact_bilinear(layer, inputs, w):
    """The count sketch of the outer product itself: no convolution and no Fourier transform."""
    x = means(layer, inputs, w)
    x = {m: unit_scale(v) for m, v in x.items()}
    batch, dim, size = len(next(iter(x.values()))), layer.hidden_dim, layer.sketch_dim
    z = np.zeros((batch, size))
    for index in np.ndindex(*[dim] * len(layer.modalities)):
        place, value = 0, np.ones(batch)
        for i, m in zip(index, layer.modalities, strict=True):
            place += int(np.rint(w[f"{m}_hash"][i]))
            value = value * w[f"{m}_sign"][i] * x[m][:, i]
        z[:, place % size] += value
    return one_token(dense(power_norm(z), under(w, "out")))


def multiplicative(layer, inputs, w):
    """The chain f_m = f_(m-1) (W_m x_m + V_m) + U_m x_m + b_m, sample by sample."""
    x = means(layer, inputs, w)
    dim, rows = layer.hidden_dim, []
    for row in range(len(next(iter(x.values())))):
        f = x[layer.modalities[0]][row]
        for m in layer.modalities[1:]:
            weights = dense(x[m][row], under(w, f"{m}_map"))
            full = {
                "matrix": lambda v: v.reshape(dim, dim),
                "vector": np.diag,
                "scalar": lambda v: v * np.eye(dim),
            }[layer.form](weights)
            f = full.T @ f + dense(x[m][row], under(w, f"{m}_shift"))
        rows.append(f)
    return one_token(dense(np.stack(rows), under(w, "out")))


def hypernetwork(layer, inputs, w):
    """x + gelu(W(e)^T x + b(e)) with W(e) = sum_k e_k G_k + G_0, token by token."""
    tokens, masks = projected(layer, inputs, w)
    dim, names = layer.hidden_dim, [m for m in layer.modalities if m != layer.source]
    names = names or [layer.source]
    code = dense(masked_mean(tokens[layer.source], masks[layer.source]), under(w, "code"))
    mask = np.concatenate([masks[m] for m in names], axis=1)
    x = np.concatenate([tokens[m] for m in names], axis=1)
    out = np.zeros_like(x)
    for row, t in zip(*np.nonzero(mask), strict=True):
        kernel = w["kernel/bias"] + sum(e * g for e, g in zip(code[row], w["kernel/kernel"]))  # noqa: B905
        bias = dense(code[row], under(w, "bias"))
        out[row, t] = x[row, t] + gelu(kernel.reshape(dim, dim).T @ x[row, t] + bias)
    return {"tokens": out, "mask": mask, "pooled": dense(masked_mean(out, mask), under(w, "out"))}


def non_local_gate(layer, inputs, w):
    """x_i + sum_m W_m sum_j a_ij g(y_j), a softmax that also has a key of logit and value zero."""
    tokens, masks = projected(layer, inputs, w)
    x, mask = tokens[layer.query], masks[layer.query]
    z = x.copy()
    for m in [m for m in layer.modalities if m != layer.query] or [layer.query]:
        for row, i in zip(*np.nonzero(mask), strict=True):
            y = tokens[m][row][masks[m][row]]
            query = dense(x[row, i], under(w, f"{m}_theta"))
            logits = dense(y, under(w, f"{m}_phi")) @ query / np.sqrt(len(query))
            a = softmax(np.concatenate([logits, [0.0]]))[:-1]
            z[row, i] += dense(a @ dense(y, under(w, f"{m}_g")), under(w, f"{m}_back"))
    return {"tokens": z, "mask": mask, "pooled": masked_mean(z, mask)}


FORMULAS = {
    "block": block,
    "compact_bilinear": compact_bilinear,
    "hypernetwork": hypernetwork,
    "low_rank": low_rank,
    "mfb": mfb,
    "mfh": mfh,
    "mlb": mlb,
    "multiplicative": multiplicative,
    "mutan": mutan,
    "non_local_gate": non_local_gate,
    "tensor_fusion": tensor_fusion,
}
VARIANTS = [
    ("block", {"num_blocks": 2, "block_dim": 3, "rank": 4}),
    ("compact_bilinear", {"sketch_dim": 10, "seed": 3}),
    ("hypernetwork", {"source": "text", "code_dim": 3}),
    ("low_rank", {"rank": 1}),
    ("mfb", {"pool_dim": 5, "factors": 1}),
    ("mfh", {"num_blocks": 3, "pool_dim": 3, "factors": 2}),
    ("mlb", {"rank": 5}),
    ("multiplicative", {"form": "scalar"}),
    ("multiplicative", {"form": "vector"}),
    ("mutan", {"tucker_dim": 5, "rank": 2}),
    ("non_local_gate", {"query": "text", "intermediate_dim": 3}),
    ("tensor_fusion", {"tensor_dim": 3}),
]
