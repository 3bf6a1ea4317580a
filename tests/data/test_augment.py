"""Augmentation: a function of the seed alone, of every op, on real rows only."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Audio, Image, Text, Vector
from mmkeras.data import augment_text, rand_augment
from mmkeras.data.augment import OPS, augmenter
from mmkeras.data.draws import Draws
from tests.core.errors import says
from tests.data import files

B, H, W = 6, 9, 11
RATE, S = 8000, 400
ABSENT = 2
ARGUMENTS = {
    "time_shift": {"seconds": 0.01},
    "time_stretch": {"window_seconds": 0.008},
    "word_dropout": {"rate": 0.5},
    "swap": {"rate": 0.7},
    "synonyms": {
        "rate": 0.7,
        "table": {f"w{i}": [f"w{i + 1}", f"w{i + 2}", "other"] for i in range(18)},
    },
}
IMAGE_OPS, AUDIO_OPS, TEXT_OPS = (sorted(OPS[kind]) for kind in ("image", "audio", "text"))
WORDS = ("[PAD]", "[UNK]", *(f"w{i}" for i in range(20)))


def seed(a, b=0):
    return Draws(tf.constant([a, b], tf.uint32))


def spec_of(*ops):
    augment = {op: ARGUMENTS.get(op, {}) for op in ops}
    if ops[0] in OPS["image"]:
        return Image(size=(H, W), augment=augment)
    if ops[0] in OPS["text"]:
        return Text(length=S, vocabulary=WORDS, augment=augment)
    return Audio(rate_hz=RATE, seconds=S / RATE, augment=augment)


def batch_of(spec, rng):
    """A batch whose row ABSENT is absent."""
    if spec.kind == "image":
        value = rng.integers(0, 256, (B, *spec.shape)).astype("uint8")
        mask = np.ones(B, bool)
    else:
        value = rng.uniform(-0.5, 0.5, (B, *spec.shape)).astype("float32")
        if spec.kind == "text":
            value = rng.integers(2, len(WORDS), (B, S)).astype("int32")
        mask = np.ones((B, S), bool)
        mask[0, 300:] = False
        value[0, 300:] = 0
    mask[ABSENT], value[ABSENT] = False, 0
    return value, mask


def test_every_declared_augmentation_is_covered():
    # Crops are cut while decoding: tests/data/test_crop.py.
    assert set(OPS["image"]) | {"random_resized_crop"} == set(Image.augmentations)
    assert set(OPS["audio"]) | {"spec_augment"} == set(Audio.augmentations)
    assert set(OPS["text"]) | {"character_noise"} == set(Text.augmentations)


@pytest.mark.parametrize("op", [*IMAGE_OPS, *AUDIO_OPS, *TEXT_OPS])
def test_an_op_changes_real_rows_by_the_seed_alone(op, rng):
    spec = spec_of(op)
    value, mask = batch_of(spec, rng)
    apply = augmenter(spec)
    first = apply(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    assert first.dtype == value.dtype and first.shape == value.shape
    assert not first[ABSENT].any()
    assert not first[~mask].any()  # for sounds: nothing behind the mask of a row
    changed = [not np.array_equal(a, b) for a, b in zip(first, value, strict=True)]
    assert not changed[ABSENT]
    assert sum(changed) >= (1 if op == "flip" else B - 2), changed
    keras.utils.set_random_seed(99)  # the global seed is without effect
    again = apply(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    files.same(first, again)
    graph = tf.function(apply)(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    if spec.kind == "image":
        assert np.abs(first.astype(int) - graph).max() <= 1
    else:
        # The phase vocoder sums phases over all frames.
        np.testing.assert_allclose(first, graph, atol=1e-5 if op == "time_stretch" else 1e-6)
    others = [apply(value, mask, seed(a, b)).numpy() for a, b in ((2, 2), (1, 3), (5, 9))]
    assert any(not np.array_equal(first, other) for other in others)
    if op != "flip":
        assert all(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("op", [*IMAGE_OPS, *AUDIO_OPS, *TEXT_OPS])
def test_rows_are_changed_independently(op, rng):
    spec = spec_of(op)
    value, mask = batch_of(spec, rng)
    value = np.repeat(value[1:2], 8, axis=0)
    mask = np.repeat(mask[1:2], 8, axis=0)
    out = augmenter(spec)(value, mask, seed(4)).numpy()
    distinct = len({row.tobytes() for row in out})
    assert distinct == 2 if op == "flip" else distinct >= 5, distinct


def test_flip_mirrors(rng):
    spec = spec_of("flip")
    value = rng.integers(0, 256, (32, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(32, bool), seed(3)).numpy()
    kept = (out == value).all(axis=(1, 2, 3))
    mirrored = (out == value[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 6 <= mirrored.sum() <= 26
    both = Image(size=(H, W), augment={"flip": {"mode": "vertical"}})
    out = augmenter(both)(value, np.ones(32, bool), seed(3)).numpy()
    upside = (out == value[:, ::-1]).all(axis=(1, 2, 3))
    assert ((out == value).all(axis=(1, 2, 3)) ^ upside).all() and upside.any()


def centre(pictures):
    """Centre of brightness (y, x) of each picture."""
    weight = pictures[..., 0].astype(float)
    total = weight.sum(axis=(1, 2))
    y = (weight.sum(axis=2) * np.arange(pictures.shape[1])).sum(axis=1) / total
    x = (weight.sum(axis=1) * np.arange(pictures.shape[2])).sum(axis=1) / total
    return np.stack([y, x], axis=1)


def test_translate_moves_by_at_most_its_fraction_and_fills_with_black():
    size = 40
    value = np.zeros((24, size, size, 3), "uint8")
    value[:, 16:24, 16:24] = 200
    spec = Image(size=size, augment={"translate": {"fraction": 0.2}})
    out = augmenter(spec)(value, np.ones(24, bool), seed(1)).numpy()
    moved = centre(out) - centre(value)
    assert np.abs(moved).max() <= 0.2 * size + 0.5
    assert moved.min() < -2 and moved.max() > 2
    full = np.full((8, size, size, 3), 200, "uint8")
    out = augmenter(spec)(full, np.ones(8, bool), seed(1)).numpy()
    assert (out.reshape(8, -1).min(axis=1) == 0).all()  # black came in at the border
    assert out.max() == 200


def test_zoom_and_rotate_stay_within_their_fraction():
    size = 41
    y, x = np.mgrid[:size, :size] - size // 2
    disc = np.where(y**2 + x**2 <= 100, 200, 0).astype("uint8")
    value = np.repeat(disc[None, :, :, None], 16, axis=0).repeat(3, axis=3)
    mask = np.ones(16, bool)
    zoom = augmenter(Image(size=size, augment={"zoom": {"fraction": 0.3}}))
    area = (zoom(value, mask, seed(2)).numpy()[..., 0] > 100).sum(axis=(1, 2)) / (disc > 100).sum()
    assert 0.9 / 1.3**2 < area.min() < 0.9 and 1.1 < area.max() < 1.1 / 0.7**2
    bar = np.zeros((16, size, size, 3), "uint8")
    bar[:, 19:22, 5:36] = 200
    turn = augmenter(Image(size=size, augment={"rotate": {"fraction": 0.05}}))
    out = turn(bar, mask, seed(2)).numpy()[..., 0].astype(float)
    angle = [
        np.polyfit(*np.nonzero(picture > 100)[::-1], 1, w=picture[picture > 100])[0]
        for picture in out
    ]
    turns = np.arctan(angle) / (2 * np.pi)
    assert np.abs(turns).max() <= 0.052 and turns.min() < -0.01 and turns.max() > 0.01


def test_brightness_and_contrast():
    value = np.full((16, H, W, 3), 128, "uint8")
    value[:, : H // 2] = 100
    mask = np.ones(16, bool)
    bright = augmenter(Image(size=(H, W), augment={"brightness": {"fraction": 0.2}}))
    out = bright(value, mask, seed(1)).numpy().astype(int)
    shift = out - value
    assert np.ptp(shift.reshape(16, -1), axis=1).max() <= 1  # one shift a picture
    assert 5 < np.abs(shift).max() <= 51 and shift.min() < 0 < shift.max()
    contrast = augmenter(Image(size=(H, W), augment={"contrast": {"fraction": 0.5}}))
    out = contrast(value, mask, seed(1)).numpy().astype(int)
    spread = out[:, -1, 0, 0] - out[:, 0, 0, 0]
    assert 28 * 0.5 - 1 <= spread.min() < 26 and 30 < spread.max() <= 28 * 1.5 + 1
    assert np.abs(out.mean(axis=(1, 2, 3)) - value.mean(axis=(1, 2, 3))).max() <= 1


def test_pixels_stay_in_0_to_255(rng):
    spec = Image(size=(H, W), augment={op: {"fraction": 0.9} for op in ("brightness", "contrast")})
    value = rng.choice([0, 255], (B, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(B, bool), seed(1)).numpy()
    # A wrap-around would turn white into black: a picture keeps its order.
    for a, b in zip(value, out, strict=True):
        assert b[a == 255].min() >= b[a == 0].max()


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_has_the_declared_level(snr_db):
    count, size = 8, 8000
    spec = Audio(rate_hz=RATE, seconds=1.0, augment={"noise": {"snr_db": snr_db}})
    wave = 0.3 * np.sin(np.arange(size) * 2 * np.pi * 440 / RATE)
    value = np.repeat(wave[None], count, axis=0).astype("float32")
    mask = np.ones((count, size), bool)
    mask[0, size // 2 :] = False  # the power is that of the real part
    value[0, size // 2 :] = 0
    out = augmenter(spec)(value, mask, seed(1)).numpy()
    for row in range(count):
        real = mask[row]
        noise = out[row][real] - value[row][real]
        snr = 10 * np.log10(np.mean(value[row][real] ** 2) / np.mean(noise**2))
        assert abs(snr - snr_db) < 0.3, (row, snr)
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(real.sum())
    assert not out[0, size // 2 :].any()
    assert np.abs(np.corrcoef(out - value)[1:, 1:] - np.eye(count - 1)).max() < 0.1


def test_noise_leaves_silence_silent():
    spec = spec_of("noise")
    out = augmenter(spec)(np.zeros((2, S), "float32"), np.ones((2, S), bool), seed(1))
    assert not out.numpy().any()


def test_time_shift_moves_by_at_most_its_limit(rng):
    spec, limit, count = spec_of("time_shift"), 80, 64
    value = rng.uniform(0.1, 0.5, (count, S)).astype("float32")
    out = augmenter(spec)(value, np.ones((count, S), bool), seed(1)).numpy()
    shifts = []
    for before, after in zip(value, out, strict=True):
        found = [s for s in range(-S + 1, S) if np.array_equal(moved(before, s), after)]
        assert len(found) == 1
        shifts += found
    assert max(np.abs(shifts)) <= limit
    assert min(shifts) < -limit / 2 and max(shifts) > limit / 2
    assert len(set(shifts)) > 30


def moved(wave, shift):
    """`wave` moved right by `shift` samples; zeros come in."""
    out = np.zeros_like(wave)
    out[max(shift, 0) : S + min(shift, 0)] = wave[max(-shift, 0) : S - max(shift, 0)]
    return out


def test_ops_act_one_after_the_other_with_seeds_of_their_own(rng):
    both = spec_of("time_shift", "noise")
    value, mask = batch_of(both, rng)
    out = augmenter(both)(value, mask, seed(1)).numpy()
    shifted = augmenter(spec_of("time_shift"))(value, mask, seed(1)).numpy()
    noise = out[1] - shifted[1]
    snr = 10 * np.log10(np.mean(shifted[1] ** 2) / np.mean(noise**2))
    assert abs(snr - 20) < 1  # the same shift, and noise on top


def test_what_has_no_augmentation_gives_none():
    for spec in (Image(), Audio(), Text(), Vector(), Audio(augment={"spec_augment": {}})):
        assert augmenter(spec) is None


def test_wrong_arguments_name_the_op():
    with says(ValueError, "augmentation 'flip'", "{'fraction': 0.1}", "mmkeras.data.augment"):
        augmenter(Image(augment={"flip": {"fraction": 0.1}}))
    with says(ValueError, "augmentation 'noise'", "{'snr': 3}"):
        augmenter(Audio(augment={"noise": {"snr": 3}}))


# In the pipeline


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (6, 8, 8, 3)).astype("uint8"))
    waves = list(rng.uniform(-0.5, 0.5, (6, 200)).astype("float32"))
    pictures[1] = waves[4] = None
    return {"image": pictures, "audio": waves, "v": np.arange(6.0)[:, None]}


SPECS = {
    "image": Image(size=8, augment={"flip": {}, "translate": {}, "brightness": {}}),
    "audio": Audio(rate_hz=8000, seconds=0.025, augment={"noise": {"snr_db": 10}}),
    "v": Vector(normalize=False),
}


def table(columns, seed=0):
    return mk.data.table(columns, SPECS, valid=columns, test=columns, seed=seed)


def test_training_batches_differ_by_epoch_and_repeat_by_seed(columns):
    train = table(columns).train(3, shuffle=False)
    epochs = [files.numpy(train) for _ in range(2)]
    again = table(columns).train(3, shuffle=False)
    keras.utils.set_random_seed(7)
    files.same(epochs, [files.numpy(again) for _ in range(2)])
    other = files.numpy(table(columns, seed=1).train(3, shuffle=False))
    for name in ("image", "audio"):
        first = np.concatenate([x[name] for (x,) in epochs[0]])
        second = np.concatenate([x[name] for (x,) in epochs[1]])
        third = np.concatenate([x[name] for (x,) in other])
        absent = {"image": 1, "audio": 4}[name]
        for row in range(6):
            if row == absent:
                assert not first[row].any() and not second[row].any()
            else:
                assert not np.array_equal(first[row], second[row])
                assert not np.array_equal(first[row], third[row])
    for x, y in zip(epochs[0], epochs[1], strict=True):
        files.same(x[0]["v"], y[0]["v"])  # a vector has no augmentation
        files.same(x[0]["audio_mask"], y[0]["audio_mask"])


def test_no_augmentation_for_valid_and_test_nor_on_request(columns):
    data = table(columns)
    for dataset in (
        data.valid(6),
        data.test(6),
        data.batches("train", 6),
        data.train(6, shuffle=False, augment=False),
    ):
        ((x,),) = files.numpy(dataset)
        for name in ("image", "audio"):
            for row, cell in enumerate(columns[name]):
                expected = 0 if cell is None else cell
                np.testing.assert_array_equal(x[name][row], expected * np.ones_like(x[name][row]))


ALL = {
    "image": Image(size=8, augment={op: {} for op in (*IMAGE_OPS, "random_resized_crop")}),
    "audio": Audio(
        rate_hz=8000,
        seconds=0.025,
        augment={op: ARGUMENTS.get(op, {}) for op in AUDIO_OPS},
    ),
    "text": Text(
        length=7,
        vocabulary=WORDS,
        augment={"character_noise": {"rate": 0.2}} | {op: ARGUMENTS.get(op, {}) for op in TEXT_OPS},
    ),
    "letters": Text(length=9, tokenizer="bytes", augment={"character_noise": {"rate": 0.5}}),
}


def test_parts_of_a_batch_are_augmented_as_the_whole(columns):
    """Every augmentation of every kind: several readers see what one sees.

    To the last bit, but for sounds: the sums of a Fourier transform round by the batch.
    """
    parts = 2
    rng = np.random.default_rng(1)
    rows = {name: (columns[name] * 2)[:8] for name in ("image", "audio")}
    # Rows of different lengths, so that the longest text of a part is not that of the batch.
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 20, n)) for n in (1, 2, 9, 3, 1, 0, 5, 2)]
    rows |= {"text": texts, "letters": [t.replace("w", "long word ") for t in texts]}
    train = mk.data.table(rows, ALL, seed=3).train(8)
    whole = next(iter(train.stream()))[0]
    shards = [next(iter(train.stream(shard=(i, parts))))[0] for i in range(parts)]
    for name, value in whole.items():
        found = np.concatenate([shard[name].numpy() for shard in shards])
        tolerance = 2e-5 if name == "audio" else 0  # measured: 3e-6
        np.testing.assert_allclose(found, value.numpy(), rtol=0, atol=tolerance, err_msg=name)
    plain = next(iter(mk.data.table(rows, ALL, seed=3).train(8, augment=False).stream()))[0]
    assert all(not np.array_equal(whole[name], plain[name]) for name in ALL)


def test_cutout_blackens_one_square_whose_centre_is_in_the_picture():
    spec = Image(size=(20, 30), augment={"cutout": {"fraction": 0.5}})
    value = np.full((64, 20, 30, 3), 200, "uint8")
    out = augmenter(spec)(value, np.ones(64, bool), seed(1)).numpy()
    areas = []
    for picture in out:
        assert set(np.unique(picture)) <= {0, 200}
        y, x = np.nonzero(picture[..., 0] == 0)
        assert (picture[y.min() : y.max() + 1, x.min() : x.max() + 1] == 0).all()  # one box
        assert 5 <= np.ptp(y) + 1 <= 10 and 5 <= np.ptp(x) + 1 <= 10
        areas.append(len(y))
    assert max(areas) == 100 and min(areas) < 80  # cut off at the border
    two = Image(size=(20, 30), augment={"cutout": {"fraction": 0.2, "count": 3}})
    assert (augmenter(two)(value, np.ones(64, bool), seed(1)).numpy() == 0).mean() < 0.09


def test_grid_mask_blackens_its_share_in_a_period():
    size = 48
    spec = Image(size=size, augment={"grid_mask": {"unit": (0.25, 0.25), "ratio": 0.5}})
    value = np.full((16, size, size, 3), 200, "uint8")
    out = augmenter(spec)(value, np.ones(16, bool), seed(1)).numpy()
    cut = out[..., 0] == 0
    np.testing.assert_allclose(cut.mean(axis=(1, 2)), 0.25, atol=0.01)
    np.testing.assert_array_equal(cut[:, 12:], cut[:, :-12])  # a unit is 12 pixels
    np.testing.assert_array_equal(cut[:, :, 12:], cut[:, :, :-12])
    assert len({c.tobytes() for c in cut}) > 8
    turned = spec.replace(augment={"grid_mask": {"ratio": 0.5, "rotate": 0.1}})
    out = augmenter(turned)(value, np.ones(16, bool), seed(1)).numpy()
    assert 0.1 < (out == 0).mean() < 0.4


def test_color_jitter_keeps_the_value_and_greys(rng):
    spec = Image(size=(H, W), augment={"color_jitter": {"hue": 0.1, "saturation": 0.5}})
    value = rng.integers(0, 256, (B, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(B, bool), seed(1)).numpy()
    # Hue and saturation leave the largest channel, and grey pixels, as they are.
    assert np.abs(out.max(axis=-1).astype(int) - value.max(axis=-1)).max() <= 1
    grey = np.repeat(value[..., :1], 3, axis=-1)
    files.same(augmenter(spec)(grey, np.ones(B, bool), seed(1)).numpy(), grey)
    none = spec.replace(augment={"color_jitter": {"hue": 0.0, "saturation": 0.0}})
    assert (
        np.abs(augmenter(none)(value, np.ones(B, bool), seed(1)).numpy() - value.astype(int)).max()
        <= 1
    )
    with says(ValueError, "'color_jitter'", "coloured pictures", "channels=1"):
        augmenter(spec.replace(channels=1))


@pytest.mark.parametrize("name", rand_augment.OPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_op_of_rand_augment(name, channels, rng):
    y, x = np.mgrid[:12, :16]
    picture = np.stack([10 * y + 40, 9 * x + 50, 5 * (x + y) + 60][:channels], -1).astype("float32")
    op = rand_augment.OPS[name]
    out = {s: np.asarray(op(tf.constant(picture), tf.constant(s))) for s in (-0.5, 0.0, 0.5)}
    for found in out.values():
        assert found.shape == picture.shape and np.isfinite(found).all()
    still = {"auto_contrast", "equalize"}  # which have no strength
    if name in still:
        files.same(out[0.5], out[0.0])
        assert np.ptp(out[0.5][..., 0]) > np.ptp(picture[..., 0])
    elif name != "identity":
        np.testing.assert_allclose(out[0.0], picture, atol=1e-3)
        changed = not np.allclose(out[0.5], picture, atol=0.5)
        assert changed or (name == "color" and channels == 1)


def test_rand_augment_draws_per_picture(rng):
    spec = Image(size=(12, 16), augment={"rand_augment": {"num_ops": 1, "magnitude": 0.6}})
    picture = rng.integers(40, 200, (12, 16, 3)).astype("uint8")
    out = augmenter(spec)(np.repeat(picture[None], 40, axis=0), np.ones(40, bool), seed(1)).numpy()
    assert len({p.tobytes() for p in out}) >= 10
    assert any(np.array_equal(p, picture) for p in out)  # identity is one of them
    with says(ValueError, "'rand_augment'", "magnitude"):
        augmenter(spec.replace(augment={"rand_augment": {"magnitude": 2}}))


def test_gain_is_within_its_decibels_and_clips(rng):
    spec = Audio(rate_hz=RATE, seconds=S / RATE, augment={"gain": {"db": 12}})
    value = rng.uniform(-0.2, 0.2, (64, S)).astype("float32")
    out = augmenter(spec)(value, np.ones((64, S), bool), seed(1)).numpy()
    ratio = out / value
    assert np.ptp(ratio, axis=1).max() < 1e-4  # one factor a sound
    db = 20 * np.log10(ratio[:, 0])
    assert np.abs(db).max() <= 12 and db.min() < -6 and db.max() > 6
    assert np.abs(augmenter(spec)(value * 5, np.ones((64, S), bool), seed(1))).max() == 1.0


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_time_stretch_keeps_the_pitch_and_scales_the_time(rate):
    spec = Audio(rate_hz=RATE, seconds=1.0, augment={"time_stretch": {"rate": (rate, rate)}})
    t = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * (t < 0.5)
    out = augmenter(spec)(tone[None].astype("float32"), np.ones((1, RATE), bool), seed(1)).numpy()[
        0
    ]
    spectrum = np.abs(np.fft.rfft(out[800:3000] * np.hanning(2200)))
    assert abs(np.argmax(spectrum) * RATE / 2200 - 440) < 4
    loud = np.flatnonzero(np.abs(out) > 0.1)
    assert abs(loud[-1] / RATE - 0.5 / rate) < 0.04 and loud[0] < 0.03 * RATE
    assert abs(np.abs(out[1000:3000]).max() - 0.5) < 0.08
    if rate == 1.0:
        np.testing.assert_allclose(out, tone, atol=2e-3)


def text(tokens, **augment):
    ids = np.array([[WORDS.index(t) for t in tokens]] * 40, "int32")
    spec = Text(length=ids.shape[1], vocabulary=WORDS, augment=augment)
    return spec, ids


def test_word_dropout_and_swap_and_synonyms():
    tokens = ["w1", "w2", "w3", "w4", "[PAD]"]
    mask = np.tile(np.array(tokens) != "[PAD]", (40, 1))
    spec, ids = text(tokens, word_dropout={"rate": 0.3})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert set(np.unique(out[out != ids])) == {1} and not out[:, 4].any()
    assert 0.2 < (out[:, :4] == 1).mean() < 0.4
    spec, ids = text(tokens, swap={"rate": 0.9})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert (np.sort(out, axis=1) == np.sort(ids, axis=1)).all()  # nothing is lost
    where = np.array([[int(np.flatnonzero(row == t)[0]) for t in ids[0]] for row in out])
    assert np.abs(where - np.arange(5)).max() == 1 and not out[:, 4].any()
    assert {tuple(row[:2]) for row in out} >= {(ids[0, 1], ids[0, 0]), (ids[0, 0], ids[0, 2])}
    table = {"w1": ["w7", "w8", "nowhere"], "w2": ["nowhere"], "other": ["w1"]}
    spec, ids = text(tokens, synonyms={"rate": 1.0, "table": table})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert set(out[:, 0]) == {WORDS.index("w7"), WORDS.index("w8")}
    np.testing.assert_array_equal(out[:, 1:], ids[:, 1:])
    with says(ValueError, "'synonyms'", "dict of token -> list"):
        augmenter(spec.replace(augment={"synonyms": {}}))


def test_separators_of_segments_stay(rng):
    vocabulary = (*WORDS[:2], "[SEP]", *WORDS[2:])
    augment = {op: {**ARGUMENTS[op], "rate": 1.0} for op in TEXT_OPS}
    spec = Text(length=6, vocabulary=vocabulary, segments=2, augment=augment)
    ids = np.tile(np.array([[3, 4, 2, 5, 6, 2]], "int32"), (20, 1))
    out = augmenter(spec)(ids, np.ones((20, 6), bool), seed(1)).numpy()
    assert (out[:, [2, 5]] == 2).all() and (out[:, [0, 1, 3, 4]] != 2).all()


def test_character_noise_makes_typing_errors():
    spec = Text(augment={"character_noise": {"rate": 0.3}})
    noise = augment_text.character_noise(spec, 0.3)
    raw = ["hällo wörld of words"] * 200 + ["", "  "]
    out = [t.decode() for t in noise(tf.constant(raw), seed(1)).numpy()]
    assert out[-2:] == ["", "  "] and len(set(out)) > 150
    # Expected length: a third of the errors takes a character, a third adds one.
    assert abs(np.mean([len(t) for t in out[:200]]) - 20) < 0.5
    assert {t.count(" ") for t in out[:200]} == {3}  # white space stays
    same = augment_text.character_noise(spec, 0.0)
    assert [t.decode() for t in same(tf.constant(raw), seed(1)).numpy()] == raw
    alone = augment_text.character_noise(spec, 1.0)(tf.constant(["a"] * 50), seed(1)).numpy()
    assert b"" not in alone  # a text never becomes an absent one
    with says(ValueError, "'character_noise'", "{'rate': 2}"):
        mk.data.table({"t": ["a"]}, {"t": Text(augment={"character_noise": {"rate": 2}})}).train(1)


def test_character_noise_outlives_the_cache():
    spec = Text(length=4, tokenizer="bytes", augment={"character_noise": {"rate": 0.9}})
    data = mk.data.table({"t": ["abcd"] * 8}, {"t": spec})
    for held in (data, data.cache()):
        (x,) = next(iter(held.train(8)))
        assert len(np.unique(x["t"].numpy(), axis=0)) > 3
