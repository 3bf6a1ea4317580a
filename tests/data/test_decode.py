"""Decoders against PIL, `wave`, a Python tokenizer and NumPy; all in the graph."""

import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.core import Audio, Image, Text, Vector
from mmkeras.data import decoder
from mmkeras.data.vocabulary import valid_utf8
from tests.core.errors import says
from tests.data import files

H, W = 7, 5
RATE = 8000


def run(spec, raw, **kwargs):
    """Decodes in a graph whose batch size is not known; returns NumPy (value, mask)."""
    decode = decoder(spec, **kwargs)
    raw = tf.constant(raw)
    signature = [tf.TensorSpec((None, *raw.shape[1:]), raw.dtype)]
    value, mask = tf.function(decode, input_signature=signature)(raw)
    assert value.dtype == spec.dtype and mask.dtype == tf.bool
    assert value.shape == (len(raw), *spec.shape)
    assert mask.shape == (len(raw), *spec.mask_shape)
    return value.numpy(), mask.numpy()


@pytest.fixture(scope="module")
def picture():
    """A smooth picture, uint8 (H, W, 3), so that JPEG keeps it."""
    y, x = np.mgrid[:H, :W]
    return np.stack([20 * y + 30, 40 * x + 10, 12 * (x + y) + 90], axis=-1).astype("uint8")


# Pictures: the native size


@pytest.mark.parametrize("channels", [1, 3])
def test_png_bmp_gif_jpeg(picture, channels, rng):
    noise = rng.integers(0, 256, (H, W, 3)).astype("uint8")
    grey = noise[:, :, 0]
    raw = [
        files.encode(noise, "PNG"),
        files.encode(grey, "PNG"),
        files.encode(np.dstack([noise, grey]), "PNG"),  # an alpha channel is dropped
        files.encode(noise, "BMP"),
        files.encode(grey, "BMP"),
        files.encode(noise, "GIF"),
        files.encode(picture, "JPEG", quality=75),
        files.encode(picture[:, :, 0], "JPEG", quality=75),
    ]
    value, mask = run(Image(size=(H, W), channels=channels), raw)
    assert mask.all()
    expected = np.stack([files.pixels_of(data, channels) for data in raw]).astype(int)
    difference = np.abs(value - expected).reshape(len(raw), -1).max(axis=1)
    if channels == 3:
        assert difference[:6].tolist() == [0] * 6, difference
    else:  # colour to grey is rounded differently; grey files stay exact
        assert (difference[:6] <= [1, 0, 1, 1, 0, 1]).all(), difference
    # Both use the accurate inverse cosine transform.
    assert (difference[6:] <= 1).all(), difference


def test_animated_gif_gives_its_first_frame(rng):
    frames = [rng.integers(0, 256, (H, W, 3)).astype("uint8") for _ in range(3)]
    pictures = [files.Pillow.fromarray(frame) for frame in frames]
    raw = files.encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=100)
    assert files.Pillow.open(files.io.BytesIO(raw)).n_frames == 3
    value, _ = run(Image(size=(H, W)), [raw, raw])
    np.testing.assert_array_equal(value[0], files.pixels_of(raw))
    assert np.abs(value[0].astype(int) - frames[1]).max() > 50


# Pictures: resizing


def block_mean(pixels, by_h, by_w):
    h, w, c = pixels.shape
    blocks = pixels.reshape(h // by_h, by_h, w // by_w, by_w, c).astype("float64")
    return np.round(blocks.mean(axis=(1, 3))).astype("uint8")


def test_area_by_a_whole_factor_is_the_block_mean(rng):
    pixels = rng.integers(0, 256, (4 * H, 2 * W, 3)).astype("uint8")
    value, _ = run(Image(size=(H, W)), [files.encode(pixels)])
    np.testing.assert_array_equal(value[0], block_mean(pixels, 4, 2))
    value, _ = run(Image(size=(H, W), channels=1), [files.encode(pixels[:, :, 0])])
    np.testing.assert_array_equal(value[0], block_mean(pixels[:, :, :1], 4, 2))


def test_bilinear_is_antialiased_as_in_pil(rng):
    pixels = rng.integers(0, 256, (3 * H, 4 * W, 3)).astype("uint8")
    value, _ = run(Image(size=(H, W), resize="bilinear"), [files.encode(pixels)])
    small = files.Pillow.fromarray(pixels).resize((W, H), files.Pillow.Resampling.BILINEAR)
    assert np.abs(value[0].astype(int) - np.asarray(small)).max() <= 1
    bare = np.asarray(tf.image.resize(pixels, (H, W), "bilinear"))
    assert np.abs(value[0] - bare).max() > 20  # without antialiasing it is another picture


def test_stretch_pad_and_crop(rng):
    wide = rng.integers(0, 256, (4, 10, 3)).astype("uint8")
    raw = [files.encode(wide), files.encode(wide.transpose(1, 0, 2))]
    value, _ = run(Image(size=(4, 5), fit="stretch"), raw[:1])
    np.testing.assert_array_equal(value[0], block_mean(wide, 1, 2))

    padded = np.zeros((10, 10, 3), "uint8")
    padded[3:7] = wide
    value, _ = run(Image(size=10, fit="pad"), raw)
    np.testing.assert_array_equal(value[0], padded)
    np.testing.assert_array_equal(value[1], padded.transpose(1, 0, 2))

    centre = block_mean(wide[:, 3:7], 2, 2)
    value, _ = run(Image(size=2, fit="crop"), raw)
    np.testing.assert_array_equal(value[0], centre)
    np.testing.assert_array_equal(value[1], centre.transpose(1, 0, 2))
    value, _ = run(Image(size=(4, 2), fit="crop"), raw[:1])  # taller than wide: 4 x 2 of the middle
    np.testing.assert_array_equal(value[0], wide[:, 4:6])


def test_enlarging_repeats_pixels_with_area(rng):
    pixels = rng.integers(0, 256, (H, W, 3)).astype("uint8")
    value, _ = run(Image(size=(2 * H, 3 * W)), [files.encode(pixels)])
    np.testing.assert_array_equal(value[0], pixels.repeat(2, axis=0).repeat(3, axis=1))


# Sounds


def test_wav_is_exact_padded_cut_and_masked(rng):
    size = 20
    spec = Audio(rate_hz=RATE, seconds=size / RATE, window_seconds=0.001)
    counts = [13, 20, 31, 1]
    pcm = [rng.integers(-32768, 32768, n) for n in counts]
    pcm[0][:2] = -32768, 32767
    raw = [files.wav(p) for p in pcm]
    value, mask = run(spec, raw)
    for row, data in enumerate(raw):
        expected = np.zeros(size, "float32")
        real = files.samples_of(data)[:size] / np.float32(32768)
        expected[: len(real)] = real
        np.testing.assert_array_equal(value[row], expected)
        np.testing.assert_array_equal(mask[row], np.arange(size) < counts[row])
    assert value.min() == -1.0 and value.max() < 1.0


def test_plain_and_other_headers_decode_alike(rng):
    size = 12
    spec = Audio(rate_hz=RATE, seconds=size / RATE, window_seconds=0.001)
    plain = [files.wav(rng.integers(-32768, 32768, n)) for n in (5, 12, 30)]
    listed = [p[:36] + b"LIST" + (4).to_bytes(4, "little") + b"abcd" + p[36:] for p in plain]
    fast = run(spec, [*plain, b""])
    slow = run(spec, [*listed, b""])  # a chunk before the samples: one item at a time
    mixed = run(spec, [plain[0], listed[1], plain[2], b""])
    files.same(fast, slow)
    files.same(fast, mixed)
    assert fast[1].sum(axis=1).tolist() == [5, 12, 12, 0]
    decode = decoder(spec)
    assert decode._plain(tf.constant(plain)).numpy().all()
    assert not decode._plain(tf.constant(listed)).numpy().any()


@pytest.mark.parametrize("at", [0, 8, 12, 16, 20, 22, 24, 28, 32, 34, 36, 40])
def test_a_changed_header_is_left_to_the_careful_way(rng, at):
    spec = Audio(rate_hz=RATE, seconds=12 / RATE, window_seconds=0.001)
    data = bytearray(files.wav(rng.integers(-32768, 32768, 12)))
    data[at] ^= 1
    assert not decoder(spec)._plain(tf.constant([bytes(data)])).numpy().any()


# Texts


def test_only_what_is_no_utf8_is_replaced(rng):
    texts = [bytes(rng.integers(0, 256, n).tolist()) for n in rng.integers(0, 6, 3000)]
    texts += [bytes([0xE0 + a, b, 0x80]) for a in range(16) for b in range(0x7F, 0xC1)]
    texts += [bytes([0xF0 + a, b, 0x80, 0x80]) for a in range(6) for b in range(0x7F, 0xC1)]
    texts += [text.encode() for text in TEXTS]
    one_by_one = [valid_utf8(tf.constant([text])).numpy()[0] for text in texts[::7]]
    whole = valid_utf8(tf.constant(texts)).numpy()
    assert one_by_one == whole[::7].tolist()
    for text, got in zip(texts, whole, strict=True):
        assert (text == got) == (text.decode("utf-8", "ignore").encode() == text), text
        got.decode("utf-8")


TEXTS = [
    "How many red circles?",
    "  two   spaces\tand\na line ",
    "don't 3.14 well-known e_mail@x.org",
    "Ünïcödé ÀÉÎ straße İstanbul",
    "cafe\u0301 noe\u0308l",  # combining marks belong to their word
    "日本語 の テスト。日本、語",
    "Привет МИР ΟΔΟΣ",
    "१२३ ٤٥ ½ x²",
    "emoji 😀 between\u2014dash\u00a0nbsp\u200bzero",
    "?!...",
    "",
]
BROKEN = [b"caf\xe9 ol\xe9", b"\xff\xfe", b"ab\xc3", b"\xe2\x82x y", b"ok \xed\xa0\x80 fine"]


def python_words(text):
    """Runs of letters, marks and numbers, lower-cased: the rule in plain Python."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
    return kept.split()


def test_words_against_python():
    texts = [*TEXTS, *BROKEN]
    words = sorted({word for text in texts for word in python_words(text)} - {"y", "мир"})
    vocabulary = ("[PAD]", "[UNK]", *words)
    length = 12
    raw = [t if isinstance(t, bytes) else t.encode("utf-8") for t in texts]
    value, mask = run(Text(length=length, vocabulary=vocabulary), raw)
    position = {word: i for i, word in enumerate(vocabulary)}
    for row, text in enumerate(texts):
        expected = [position.get(word, 1) for word in python_words(text)]
        assert value[row][mask[row]].tolist() == expected, text
        assert mask[row].tolist() == [i < len(expected) for i in range(length)], text
        assert not value[row][~mask[row]].any(), text
    assert (value == 1).sum() == 2  # "y" and "мир" alone are unknown


def test_words_are_cut_at_the_length_and_unknown_ones_are_one():
    spec = Text(length=3, vocabulary=("[PAD]", "[UNK]", "b", "a"))
    value, mask = run(spec, ["A b A b a", "zebra B", "", "[PAD] [UNK]"])
    assert value.tolist() == [[3, 2, 3], [1, 2, 0], [0, 0, 0], [1, 1, 0]]
    assert mask.sum(axis=1).tolist() == [3, 2, 0, 2]


def test_words_from_a_vocabulary_file(tmp_path):
    spec = Text(length=4, vocabulary=("[PAD]", "[UNK]", "é", "日本"))
    path = tmp_path / "vocabulary.txt"
    path.write_text("\n".join(spec.vocabulary) + "\n", encoding="utf-8")
    raw = ["É 日本 x"]
    files.same(run(spec, raw, vocabulary_file=path), run(spec, raw))
    assert run(spec, raw)[0].tolist() == [[2, 3, 1, 0]]


# Numbers


def test_vector_is_standardised():
    raw = np.array([[1, 2, 3], [4, -5, 6.5], [np.nan, 0, 0], [0, np.inf, 0]], "float32")
    mean, scale = (0.5, -1.0, 2.0), (2.0, 0.3, 7.0)
    value, mask = run(Vector(size=3, mean=mean, scale=scale), raw)
    expected = (raw[:2].astype("float64") - mean) / scale
    np.testing.assert_allclose(value[:2], expected, rtol=3e-7)
    assert not value[2:].any()
    assert mask.tolist() == [True, True, False, False]
    value, mask = run(Vector(size=3, normalize=False), raw)
    np.testing.assert_array_equal(value[:2], raw[:2])
    assert not value[2:].any() and mask.tolist() == [True, True, False, False]


# What holds for all


def cases():
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (3, 9, 8, 3)).astype("uint8")
    sounds = [files.wav(rng.integers(-999, 999, n)) for n in (10, 300, 500)]
    return {
        "image": (Image(size=(H, W)), [files.encode(p, "PNG") for p in noise], b""),
        "grey": (Image(size=(H, W), channels=1), [files.encode(p, "BMP") for p in noise], b""),
        "audio": (Audio(rate_hz=RATE, seconds=0.05), sounds, b""),
        "text": (
            Text(length=4, vocabulary=("[PAD]", "[UNK]", "a", "b")),
            [b"a", b"a b c", b"b b b b b"],
            b"",
        ),
        "vector": (
            Vector(size=2, mean=(1, 2), scale=(3, 4)),
            [[1.0, 2.0], [3.0, 4.0], [-5.0, 6.0]],
            [np.nan, np.nan],
        ),
    }


@pytest.mark.parametrize("name", ["image", "grey", "audio", "text", "vector"])
def test_absent_items_are_zero_and_batches_of_any_size_agree(name):
    spec, items, nothing = cases()[name]
    decode = decoder(spec)
    dtype = tf.float32 if name == "vector" else tf.string
    shape = (None, *spec.raw_shape)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype)])
    def graph(raw):
        traces.append(1)
        return decode(raw)

    value, mask = graph(tf.constant([items[0], nothing, items[1], items[2]], dtype))
    assert not value[1].numpy().any() and not mask[1].numpy().any()
    for row, item in zip((0, 2, 3), items, strict=True):
        assert mask[row].numpy().any() and value[row].numpy().any() or name == "vector"
        alone = graph(tf.constant([item], dtype))
        files.same((value[row : row + 1].numpy(), mask[row : row + 1].numpy()), alone)
        files.same(alone, decode(tf.constant([item], dtype)))  # eager
    none, empty = graph(
        tf.zeros((0, *spec.raw_shape)) if name == "vector" else tf.constant([], dtype)
    )
    assert none.shape == (0, *spec.shape) and empty.shape == (0, *spec.mask_shape)
    assert len(traces) == 1  # one graph for every batch size


def test_a_spec_of_another_rate_is_refused_in_the_graph():
    spec = Audio(rate_hz=16_000, seconds=0.05)
    with pytest.raises(tf.errors.InvalidArgumentError, match="16000 Hz as declared.*8000"):
        run(spec, [files.wav(np.arange(9), rate=8000)])


def test_wordpiece_without_tensorflow_text_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_text", None)
    with says(ImportError, "tokenizer='wordpiece' needs tensorflow-text", "pip install"):
        decoder(Text(tokenizer="wordpiece", vocabulary=("[PAD]", "[UNK]", "a")))
