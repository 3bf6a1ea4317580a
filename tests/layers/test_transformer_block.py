"""TransformerBlock against NumPy, and what must not change its output."""

import numpy as np
import pytest

from mmkeras.layers import TransformerBlock
from tests.contract import as_numpy, assert_same_bits, gradients, randomize
from tests.layers import formulas

B, T, S, D, HEADS = 3, 5, 4, 6, 3
TOLERANCE = 1e-5  # measured: 2.5e-6


def case(cross, seed=0, **kwargs):
    """A block with random weights and its inputs; every row has a valid position."""
    rng = np.random.default_rng(seed)
    length = S if cross else T
    mask = rng.random((B, length)) < 0.5
    mask[np.arange(B), rng.integers(0, length, B)] = True
    tokens = rng.standard_normal((B, T, D)).astype("float32")
    context = rng.standard_normal((B, S, D)).astype("float32") if cross else None
    block = TransformerBlock(HEADS, 11, cross=cross, name="unit", **kwargs)
    call(block, tokens, mask, context)
    randomize(block.weights, seed)
    return block, tokens, mask, context


def call(block, tokens, mask, context=None, **kwargs):
    arguments = (tokens, mask) if context is None else (tokens, mask, context)
    return as_numpy(block(*arguments, **kwargs))


both = pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])


@pytest.mark.parametrize("seed", range(3))
@both
def test_parity(cross, seed):
    block, tokens, mask, context = case(cross, seed)
    expected = formulas.transformer_block(
        tokens.astype("float64"), mask, HEADS, formulas.weights_of(block), context
    )
    np.testing.assert_allclose(call(block, tokens, mask, context), expected, atol=TOLERANCE, rtol=0)


@both
def test_masked_content_changes_no_bit(cross):
    block, tokens, mask, context = case(cross)
    rng = np.random.default_rng(5)
    source = context if cross else tokens
    other = np.where(mask[:, :, None], source, 1e3 * rng.standard_normal(source.shape))
    other = other.astype("float32")
    found = call(block, *((tokens, mask, other) if cross else (other, mask)))
    expected = call(block, tokens, mask, context)
    kept = np.ones((B, T), bool) if cross else mask
    assert np.array_equal(found[kept], expected[kept])


@both
def test_more_padding_changes_nothing(cross):
    block, tokens, mask, context = case(cross)
    wide = np.pad(mask, ((0, 0), (0, 3)))
    pad = ((0, 0), (0, 3), (0, 0))
    if cross:
        found = call(block, tokens, wide, np.pad(context, pad, constant_values=9.0))
    else:
        found = call(block, np.pad(tokens, pad, constant_values=9.0), wide)[:, :T]
    expected = call(block, tokens, mask, context)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_order_of_the_context_does_not_matter():
    block, tokens, mask, context = case(True)
    order = np.random.default_rng(1).permutation(S)
    found = call(block, tokens, mask[:, order], context[:, order])
    np.testing.assert_allclose(found, call(block, tokens, mask, context), atol=TOLERANCE, rtol=0)


@both
def test_nothing_to_attend_to_is_uniform_not_nan(cross):
    block, tokens, mask, context = case(cross)
    nothing = np.zeros_like(mask)
    found = call(block, tokens, nothing, context)
    assert np.isfinite(found).all()
    # Uniform attention: what a block would give that weighs all positions alike.
    w = formulas.weights_of(block)
    w["query/kernel"], w["query/bias"] = 0 * w["query/kernel"], 0 * w["query/bias"]
    everything = np.ones_like(mask)
    expected = formulas.transformer_block(tokens.astype("float64"), everything, HEADS, w, context)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    _, found = gradients(
        lambda: block(tokens, nothing, *(() if context is None else (context,))),
        [v for v in block.trainable_variables if "query" not in v.path and "key" not in v.path],
    )
    assert all(np.isfinite(g).all() for g in found.values())


@both
def test_dropout_only_in_training(cross):
    block, tokens, mask, context = case(cross, dropout=0.5)
    plain = case(cross)[0]
    plain.set_weights([v.numpy() for v in block.weights])
    expected = call(plain, tokens, mask, context)
    assert_same_bits(call(block, tokens, mask, context), expected)
    assert_same_bits(call(block, tokens, mask, context, training=False), expected)
    first = call(block, tokens, mask, context, training=True)
    assert not np.array_equal(first, call(block, tokens, mask, context, training=True))


def test_errors():
    with pytest.raises(ValueError, match="`num_heads` must divide.*num_heads=4, width=6"):
        TransformerBlock(4, 8)(np.zeros((B, T, D), "float32"), np.ones((B, T), bool))
    with pytest.raises(ValueError, match="`num_heads` must be a whole number"):
        TransformerBlock(0, 8)
    with pytest.raises(ValueError, match="`dropout` must lie between"):
        TransformerBlock(2, 8, dropout=-0.1)
