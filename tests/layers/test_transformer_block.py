"""TransformerBlock against NumPy, and what must not change its output."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.layers import TransformerBlock, transformer
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


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
@both
def test_remat_changes_no_gradient_dropout_included(cross, jit, monkeypatch):
    monkeypatch.setattr(transformer, "CHUNK", 2)  # T = 5: two chunks and a half
    found = {}
    for remat in (False, True):
        keras.utils.set_random_seed(4)
        block, tokens, mask, context = case(cross, remat=remat, dropout=0.5)
        extra = () if context is None else (context,)

        @tf.function(jit_compile=jit)
        def step(block=block, tokens=tokens, mask=mask, extra=extra):
            with tf.GradientTape() as tape:
                out = block(tokens, mask, *extra, training=True)
                loss = tf.reduce_sum(out**2)
            return out, tape.gradient(loss, [v.value for v in block.trainable_variables])

        found[remat] = [as_numpy(step()) for _ in range(2)]
        assert block.drop.seed_generator.state.numpy()[1] > 0
    paths = [v.path for v in block.trainable_variables]
    for (out, grads), (expected, others) in zip(found[True], found[False], strict=True):
        np.testing.assert_allclose(out, expected, atol=1e-6, rtol=1e-6)
        for path, g, e in zip(paths, grads, others, strict=True):
            np.testing.assert_allclose(g, e, atol=1e-6 * np.abs(e).max() + 1e-6, err_msg=path)
    assert not np.array_equal(found[True][0][0], found[True][1][0])  # the mask moves on


@pytest.mark.parametrize(("remat", "chunk", "count"), [(False, 2, 1), (True, 9, 2), (True, 2, 9)])
def test_remat_computes_the_attention_again(remat, chunk, count, monkeypatch):
    # One softmax forward and, with remat, one in the backward pass; in three chunks, three
    # forward, three in the backward pass of the block and three in those of the chunks.
    monkeypatch.setattr(transformer, "CHUNK", chunk)
    block, tokens, mask, _ = case(False, remat=remat)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(block(tokens, mask, training=True))
        return tape.gradient(loss, [v.value for v in block.trainable_variables])

    kinds = [op.type for op in step.get_concrete_function().graph.get_operations()]
    assert kinds.count("Softmax") == count


def test_errors():
    with pytest.raises(ValueError, match="`num_heads` must divide.*num_heads=4, width=6"):
        TransformerBlock(4, 8)(np.zeros((B, T, D), "float32"), np.ones((B, T), bool))
    with pytest.raises(ValueError, match="`num_heads` must be a whole number"):
        TransformerBlock(0, 8)
    with pytest.raises(ValueError, match="`dropout` must lie between"):
        TransformerBlock(2, 8, dropout=-0.1)


@both
def test_any_length_gives_what_a_known_one_gives(cross):
    block, tokens, mask, context = case(cross)
    inputs = [keras.Input((None, D)), keras.Input((None,), dtype="bool")]
    inputs += [keras.Input((None, D))] if cross else []
    model = keras.Model(inputs, block(*inputs))
    given = [tokens, mask, *([context] if cross else [])]
    np.testing.assert_allclose(
        as_numpy(model(given)), call(block, tokens, mask, context), atol=1e-6
    )
    shorter = [given[0][:, :3], given[1] if cross else given[1][:, :3], *given[2:]]
    assert as_numpy(model(shorter)).shape == (B, 3, D)
