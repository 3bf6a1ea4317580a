"""Parquet, `tf.data.Dataset` and TFDS as sources of `table`, and a dataset as it is in `fit`."""

import builtins

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_datasets

import mmkeras as mk


def png(value):
    return tf.io.encode_png(np.full((4, 5, 3), value, np.uint8)).numpy()


SPECS = {"photo": mk.Image(size=(4, 5)), "text": mk.Text(length=3), "numbers": mk.Vector(size=2)}
ROWS = {
    "photo": [png(10), png(200), None, png(30)],
    "text": ["a b", None, "b", "c d e f"],
    "numbers": [[1.0, 2.0], [3.0, 4.0], None, [5.0, 8.0]],
    "label": ["x", "y", "x", "y"],
}


def batch(data, split="train"):
    x, y = next(iter(data.batches(split, 8)))
    return {**{k: v.numpy() for k, v in x.items()}, "label": y["label"].numpy()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_parquet_gives_what_the_columns_give(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    found = mk.data.table(tmp_path / "rows.parquet", SPECS, "label")
    expected = mk.data.table(ROWS, SPECS, "label")
    assert found.modalities == expected.modalities and found.classes == ("x", "y")
    assert_same(batch(found), batch(expected))


def test_parquet_with_files_in_structs_and_paths(tmp_path):
    (tmp_path / "b.png").write_bytes(png(7))
    cells = [{"bytes": png(9), "path": "a.png"}, {"bytes": None, "path": None}]
    frame = pd.DataFrame({"photo": cells, "other": ["b.png", None], "label": ["x", "y"]})
    frame.to_parquet(tmp_path / "rows.parquet")
    specs = {"photo": mk.Image(size=(4, 5)), "other": mk.Image(size=(4, 5))}
    found = batch(mk.data.table(tmp_path / "rows.parquet", specs, "label"))
    assert found["photo_mask"].tolist() == found["other_mask"].tolist() == [True, False]
    assert (found["photo"][0] == 9).all() and (found["other"][0] == 7).all()


def test_parquet_that_is_none_and_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(ValueError, match="A .parquet file must be one. Received: rows.parquet"):
        mk.data.table(tmp_path / "rows.parquet", SPECS, "label")
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(("pyarrow", "tensorflow_datasets")):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'mmkeras\[parquet\]'"):
        mk.data.table(tmp_path / "rows.parquet", SPECS, "label")
    with pytest.raises(ImportError, match=r"pip install 'mmkeras\[tfds\]'"):
        mk.data.tfds("mnist")


def dataset():
    rows = {
        "photo": [cell or b"" for cell in ROWS["photo"]],
        "text": [cell or "" for cell in ROWS["text"]],
        "numbers": [cell or [np.nan, np.nan] for cell in ROWS["numbers"]],
        "label": ROWS["label"],
    }
    return tf.data.Dataset.from_tensor_slices(rows)


def test_a_dataset_of_rows_is_a_source():
    specs = {**SPECS, "numbers": mk.Vector(size=2, normalize=False)}
    found = mk.data.table(dataset(), specs, "label", valid=dataset().take(2))
    assert found.classes == ("x", "y")
    assert_same(batch(found), batch(mk.data.table(ROWS, specs, "label")))
    assert len(batch(found, "valid")["label"]) == 2


def test_a_dataset_that_is_no_source():
    with pytest.raises(ValueError, match="must be finite and hold a dict .*model.fit as it is"):
        mk.data.table(dataset().repeat(), SPECS, "label")
    with pytest.raises(ValueError, match="must be finite and hold a dict"):
        mk.data.table(tf.data.Dataset.range(3), SPECS, "label")


def test_a_dataset_of_batches_is_trained_on_as_it_is():
    data = mk.data.table(ROWS, {"numbers": mk.Vector(size=2)}, "label")
    batches = list(data.train(2, shuffle=False).as_numpy_iterator())
    x, y = (
        tf.nest.map_structure(lambda *parts: np.stack(parts), *column)
        for column in zip(*batches, strict=True)
    )
    own = tf.data.Dataset.from_tensor_slices((x, y))
    weights = []
    for given in (own, data.train(2, shuffle=False)):
        keras.utils.set_random_seed(3)
        heads = {"label": mk.heads.Classifier(data.classes)}
        model = mk.assemble(data.modalities, fusion="concatenation", heads=heads, hidden_dim=4)
        model.compile("sgd", jit=False)
        model.fit(given, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


# TFDS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data set written by TFDS itself, without network."""
    folder = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(0)
    features = tensorflow_datasets.features.FeaturesDict(
        {
            "image": tensorflow_datasets.features.Image(shape=(None, None, 3)),
            "sound": tensorflow_datasets.features.Audio(sample_rate=1000),
            "label": tensorflow_datasets.features.ClassLabel(names=["cat", "dog"]),
            "meta": {"caption": tensorflow_datasets.features.Text()},
        }
    )
    pictures = rng.integers(0, 256, (3, 6, 5, 3)).astype("uint8")
    rows = [
        {
            "image": pictures[i],
            "sound": np.array([0, 16384, -32768], np.int64),
            "label": i % 2,
            "meta": {"caption": f"number {i}"},
        }
        for i in range(3)
    ]
    spec = features.get_tensor_info()
    signature = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), spec)

    def of(count):
        return tf.data.Dataset.from_generator(lambda: rows[:count], output_signature=signature)

    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=features,
        split_datasets={"train": of(3), "test": of(2)},
        data_dir=str(folder),
    )
    return folder / "tiny" / "1.0.0", pictures


def test_tfds_gives_columns(prepared):
    folder, pictures = prepared
    train = mk.data.tfds(folder)
    assert all(isinstance(cell, bytes) for cell in train["image"])
    assert set(train["label"]) == {"cat", "dog"}
    assert train["sound"][0].tolist() == [0.0, 0.5, -1.0]
    specs = {
        "image": mk.Image(size=(6, 5)),
        "sound": mk.Audio(rate_hz=1000, seconds=0.025),
        "text": mk.Text(length=2),
    }
    data = mk.data.table(
        train,
        specs,
        "label",
        test=mk.data.tfds(folder, "test"),
        columns={"text": "meta/caption"},
    )
    x = batch(data)
    captions = [str(c, "utf-8") for c in train["meta/caption"]]
    for row, caption in enumerate(captions):
        np.testing.assert_array_equal(x["image"][row], pictures[int(caption[-1])])
    assert data.classes == ("cat", "dog") and len(data.splits["test"]) == 2
    assert x["sound_mask"].sum(axis=1).tolist() == [3, 3, 3]
    assert data.modalities["text"].vocabulary[2] == "number"
    assert len(mk.data.tfds(folder, "train[:2]")["label"]) == 2


def test_tfds_that_is_not_there(prepared, tmp_path):
    with pytest.raises(ValueError, match="has no split 'trian'.*Did you mean 'train'"):
        mk.data.tfds(prepared[0], "trian")
    with pytest.raises(ValueError, match="must be there. Received.*the folder of a prepared one"):
        mk.data.tfds(tmp_path)
