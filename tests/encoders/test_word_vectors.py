"""Word vectors of text files: GloVe and word2vec, missing words, damage, into every encoder."""

import gzip

import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from tests.core.errors import says

VOCABULARY = ("[PAD]", "[UNK]", "red", "blue", "new york", "é", "nowhere")
VECTORS = {
    "the": (9.0, 9.0, 9.0),
    "red": (0.5, -1.0, 2.0),
    "é": (3.0, 0.25, -0.125),
    "new york": (1e-3, 2.0, -4.0),
    "7": (1.0, 1.0, 1.0),
}
LINES = [" ".join([word, *map(str, numbers)]) for word, numbers in VECTORS.items()]


@pytest.fixture(params=["glove", "word2vec", "gz"])
def path(request, tmp_path):
    lines = ([f"{len(LINES)} 3"] if request.param == "word2vec" else []) + LINES
    text = "\n".join(lines) + (" \n" if request.param == "word2vec" else "\n")
    file = tmp_path / ("vectors.txt.gz" if request.param == "gz" else "vectors.txt")
    packed = gzip.compress(text.encode()) if request.param == "gz" else text.encode()
    file.write_bytes(packed)
    return file


def test_known_words_are_read_and_others_are_seeded(path):
    table = mk.encoders.load_vectors(path, VOCABULARY, 3)
    assert table.shape == (7, 3) and table.dtype == np.float32
    for word in ("red", "é", "new york"):
        np.testing.assert_array_equal(table[VOCABULARY.index(word)], np.float32(VECTORS[word]))
    np.testing.assert_array_equal(table, encoders.load_vectors(path, VOCABULARY, 3, seed=0))
    other = encoders.load_vectors(path, VOCABULARY, 3, seed=1)
    missing = [0, 1, 3, 6]
    assert not np.isclose(table[missing], other[missing]).any()
    spread = table[[2, 4, 5]].std()
    noise = np.random.default_rng(0).standard_normal((7, 3)).astype("float32") * spread
    np.testing.assert_allclose(table[missing], noise[missing], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lstm", {"embedding_dim": 3}),
        ("bilstm", {"embedding_dim": 3}),
        ("gru", {"embedding_dim": 3}),
        ("bow", {"embedding_dim": 3}),
        ("transformer", {"hidden_dim": 3, "num_heads": 1, "num_layers": 1}),
    ],
)
def test_an_encoder_starts_from_them(path, name, arguments):
    spec = mk.Text(length=4, vocabulary=VOCABULARY)
    table = encoders.load_vectors(path, VOCABULARY, 3)
    for given in (path, str(path), table):
        model = encoders.get({"name": name, "embeddings": given, **arguments}, "x", spec)
        held = next(v for v in model.weights if v.path.endswith("embeddings"))
        np.testing.assert_array_equal(held.numpy(), table)
        assert held.trainable


def test_another_dimension_is_refused_with_the_way_out(path):
    spec = mk.Text(length=4, vocabulary=VOCABULARY)
    with says(ValueError, "dimension of the embedding", "3 numbers in line 1", "dim=64", "to 3"):
        encoders.text_lstm("x", spec, embeddings=path)
    with says(ValueError, "3 numbers", "dim=2"):
        encoders.load_vectors(path, VOCABULARY, 2)
    with says(ValueError, "'x' must be a file or an array of shape (7, 64)", "(7, 3)"):
        encoders.text_lstm("x", spec, embeddings=np.zeros((7, 3)))


def test_a_damaged_line_is_named(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("the 1 2 3\nred 1 x 3\n")
    with says(ValueError, "line 2", "'x'", "fetch the file again"):
        encoders.load_vectors(file, VOCABULARY, 3)
    file.write_text("the 1 2 3\nred 1 2\n")
    with says(ValueError, "2 numbers in line 2", "dim=3"):
        encoders.load_vectors(file, VOCABULARY, 3)
