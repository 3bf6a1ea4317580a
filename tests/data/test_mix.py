"""Several sets of data in one batch, at given rates."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data.fingerprint import fingerprint


def table(count, start, modalities=None, targets=None):
    rows = {
        "numbers": [[float(start + i), 1.0] for i in range(count)],
        "text": ["a b" if i % 2 else "b" for i in range(count)],
        "label": ["x" if i % 2 else "y" for i in range(count)],
    }
    modalities = modalities or {"numbers": mk.Vector(size=2, normalize=False)}
    return mk.data.table(rows, modalities, targets or "label", seed=start)


def own():
    return table(20, 0)


def bought():
    return table(9, 100, {"numbers": mk.Vector(size=2, normalize=False), "text": mk.Text(length=2)})


def arrays(dataset):
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]


def from_bought(x):
    return (x["numbers"][:, 0] >= 100).tolist()


def test_rates_hold_in_every_batch_and_resume_is_exact():
    mixed = mk.data.mix({"own": own(), "bought": bought()}, rates={"own": 3, "bought": 1})
    assert list(mixed.modalities) == ["numbers", "text"] and mixed.classes == ("x", "y")
    train = mixed.train(8)
    assert train.steps == 4 == len(train)  # bought has 4 batches of 2, own 3 of 6
    batches = arrays(train.stream().take(11))
    assert all(sum(from_bought(x)) == 2 for x, _ in batches)
    assert from_bought(batches[0][0])[1:3] == [True, False] or from_bought(batches[0][0])[2]
    for first in (1, 4, 9):
        for found, expected in zip(
            arrays(train.stream(first).take(2)), batches[first:], strict=False
        ):
            for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
                np.testing.assert_array_equal(one, other)
    seen = {v for x, _ in batches[:4] for v in x["numbers"][:, 0] if v >= 100}
    assert len(seen) == 8  # every row of the longest part at most once an epoch


def test_what_a_part_lacks_is_absent():
    x, y = arrays(mk.data.mix({"own": own(), "bought": bought()}).train(6))[0]
    assert x["text_mask"].any(axis=1).tolist() == from_bought(x)
    assert not x["text"][~x["text_mask"]].any()
    parity = x["numbers"][:, 0].astype(int) % 2  # the label of a row is that of its number
    np.testing.assert_array_equal(y["label"], np.where(parity, 0, 1))


def test_readers_share_every_batch():
    mixed = mk.data.mix({"own": own(), "bought": bought()}, rates={"own": 2, "bought": 1})
    whole = arrays(mixed.train(6).stream(1).take(2))
    halves = [arrays(mixed.train(6).stream(1, (i, 2)).take(2)) for i in (0, 1)]
    for (x, _), one, other in zip(whole, *halves, strict=True):
        parts = [*one[0]["numbers"][:, 0], *other[0]["numbers"][:, 0]]
        assert sorted(parts) == sorted(x["numbers"][:, 0])
        assert sum(from_bought(one[0])) == sum(from_bought(other[0])) == 1


def test_trained_with_shards_as_a_part(tmp_path):
    first = bought()
    folder = mk.data.write_shards(first, tmp_path / "s", rows_per_shard=4)
    second = table(20, 0, first.modalities, first.targets)
    mixed = mk.data.mix({"a": mk.data.shards(folder), "b": second})
    heads = {"label": mk.heads.Classifier(mixed.classes)}
    model = mk.assemble(mixed.modalities, fusion="concatenation", heads=heads, hidden_dim=4)
    model.compile("sgd", jit=False)
    history = model.fit(mixed.train(8), validation_data=second.batches("train", 8), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()


def test_counts_are_the_largest_remainders():
    mixed = mk.data.mix({"a": own(), "b": own(), "c": own()}, rates={"a": 1, "b": 1, "c": 2})
    assert mixed.counts(8) == {"a": 2, "b": 2, "c": 4}
    assert mixed.counts(10) == {"a": 3, "b": 2, "c": 5}
    with pytest.raises(ValueError, match="Every part must have a row in every batch.*batch_size=2"):
        mixed.counts(2)


def test_parts_that_do_not_fit_are_refused():
    other = mk.Vector(size=2, normalize=False, mean=(0.0, 0.0))
    with pytest.raises(ValueError, match="'numbers' differs in 'b'.*first.modalities"):
        mk.data.mix({"a": own(), "b": table(4, 0, {"numbers": other})})
    classes = {"label": mk.Label(classes=("x", "y", "z"))}
    with pytest.raises(ValueError, match="must agree on a target's classes.*in 'b'"):
        mk.data.mix({"a": own(), "b": table(4, 0, targets=classes)})
    with pytest.raises(ValueError, match=r"a share for each of \['a'\]. Received: \['b'\]"):
        mk.data.mix({"a": own()}, {"b": 1})
    with pytest.raises(ValueError, match="A share must be above 0"):
        mk.data.mix({"a": own()}, {"a": 0})
    with pytest.raises(ValueError, match="`parts` must be a dict"):
        mk.data.mix({})


def test_the_fingerprint_of_a_mix_is_of_its_parts_and_rates():
    parts = {"a": own(), "b": bought()}
    found = {
        name: fingerprint(mk.data.mix(held, rates))
        for name, held, rates in (
            ("same", parts, {"a": 1, "b": 1}),
            ("again", parts, None),
            ("rates", parts, {"a": 2, "b": 1}),
            ("fewer", {"a": parts["a"]}, None),
        )
    }
    assert found["same"] == found["again"]
    assert len(set(found.values())) == 3 and all(len(value) == 64 for value in found.values())
