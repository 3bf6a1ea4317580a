"""The formulas of the docstrings in float64 NumPy, written without looking at Keras.

`w` is a dict of weights by the path inside the layer: `w["norm/gamma"]`.
"""

import numpy as np
from scipy.special import erf


def weights_of(layer):
    """Returns `{path inside the layer: float64 value}`."""
    return {v.path.split("/", 1)[1]: v.numpy().astype("float64") for v in layer.weights}


def under(w, prefix):
    """Returns the weights of one child."""
    return {k[len(prefix) + 1 :]: v for k, v in w.items() if k.startswith(f"{prefix}/")}


def gelu(x):
    return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def dense(x, w):
    return x @ w["kernel"] + w.get("bias", 0.0)


def layer_norm(x, w=None, epsilon=1e-6):
    w = w or {}
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return y * w.get("gamma", 1.0) + w.get("beta", 0.0)


def masked_mean(tokens, mask):
    """Sample by sample: the mean of the rows whose mask is true; zero where there is none."""
    nothing = np.zeros(tokens.shape[2])
    rows = zip(tokens, mask, strict=True)
    return np.stack([x[m].mean(axis=0) if m.any() else nothing for x, m in rows])


def attention(query, context, mask, num_heads, w):
    """One sample: query (T, D), context (S, D), mask (S,). Only the true positions take part."""
    seen = context[mask]
    q, k = dense(query, under(w, "query")), dense(seen, under(w, "key"))
    v = dense(seen, under(w, "value"))
    size = q.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        part = slice(h * size, (h + 1) * size)
        logits = q[:, part] @ k[:, part].T / np.sqrt(size)
        heads.append(softmax(logits) @ v[:, part])
    return dense(np.concatenate(heads, axis=-1), under(w, "out"))


def transformer_block(tokens, mask, num_heads, w, context=None, normalize_first=True):
    """x + attention(norm(x), context), then x + mlp(norm(x)); (B, T, D); or norms afterwards."""
    out = []
    for row, x in enumerate(tokens):
        if not normalize_first:
            source = x if context is None else context[row]
            x = layer_norm(x + attention(x, source, mask[row], num_heads, w), under(w, "norm"))
            hidden = dense(gelu(dense(x, under(w, "mlp_in"))), under(w, "mlp_out"))
            out.append(layer_norm(x + hidden, under(w, "mlp_norm")))
            continue
        query = layer_norm(x, under(w, "norm"))
        source = query
        if context is not None:
            source = layer_norm(context[row], under(w, "context_norm"))
        x = x + attention(query, source, mask[row], num_heads, w)
        hidden = gelu(dense(layer_norm(x, under(w, "mlp_norm")), under(w, "mlp_in")))
        out.append(x + dense(hidden, under(w, "mlp_out")))
    return np.stack(out)
