"""A tiny spec and random batches for every kind of modality."""

import numpy as np

import mmkeras as mk

VOCABULARY = ("[PAD]", "[UNK]", *(f"w{i}" for i in range(9)))
SPECS = {  # of every kind
    "image": mk.Image(size=(17, 16)),
    "text": mk.Text(length=6, vocabulary=VOCABULARY),
    "audio": mk.Audio(rate_hz=1000, seconds=0.335, num_bands=8),
    "vector": mk.Vector(size=7, normalize=False),
    "table": mk.Table(
        numeric=("a", "b", "c"),
        categorical=("d", "e"),
        mean=(0.0,) * 3,
        scale=(1.0,) * 3,
        vocabularies=(("x", "y"), ("u", "v", "w", "z")),
    ),
    "series": mk.Series(steps=11, channels=3, normalize=False),
    "video": mk.Video(frames=5, size=(16, 8), channels=1),
    "several": mk.Several(mk.Image(size=(17, 16)), 3),
}
SEQUENCE = mk.Vector(size=7, steps=5, normalize=False)
# Encoders that read another spec than the one of their kind.
OF_ENCODER = {("vector", "lstm"): SEQUENCE, ("vector", "transformer"): SEQUENCE}
# Smaller than the defaults; an encoder that is not named here gets its defaults.
SMALL = {
    ("image", "cnn"): {"filters": (8, 16)},
    ("image", "resnet"): {"filters": (8, 16), "depths": (1, 1)},
    ("image", "inception"): {"stem": (8, 4, 8), "stages": (((4, 4, 8, 2, 4, 4),),)},
    ("image", "vit"): {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "intermediate_dim": 12},
    ("text", "lstm"): {"embedding_dim": 5, "hidden_dim": 6},
    ("text", "bilstm"): {"embedding_dim": 5, "hidden_dim": 3},
    ("text", "gru"): {"embedding_dim": 5, "hidden_dim": 6},
    ("text", "bow"): {"embedding_dim": 5, "hidden_dim": 6, "num_layers": 2},
    ("text", "char_cnn"): {
        "embedding_dim": 5,
        "filters": (8, 16),
        "kernels": (3, 3),
        "pools": (3, 1),
    },
    ("text", "transformer"): {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
    ("audio", "cnn"): {"filters": (8, 16)},
    ("audio", "crnn"): {"filters": (8, 8), "pools": ((3, 2), (1, 2)), "hidden_dim": 4},
    ("audio", "wave_cnn"): {"filters": (8, 16), "depths": (1, 2), "kernel_size": 9},
    ("audio", "speech_transformer"): {
        "filters": 8,
        "hidden_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_dim": 12,
        "dropout": 0.0,
    },
    ("vector", "mlp"): {"hidden_dim": 6},
    ("vector", "lstm"): {"hidden_dim": 6},
    ("vector", "transformer"): {"hidden_dim": 8, "num_layers": 1, "num_heads": 2},
    ("table", "mlp"): {"hidden_dim": 6, "embedding_dim": 3},
    ("table", "ft_transformer"): {"hidden_dim": 8, "num_heads": 2, "intermediate_dim": 12},
    ("series", "tcn"): {"filters": (6, 8), "kernel_size": 3},
    ("series", "lstm"): {"hidden_dim": 6},
    ("series", "patchtst"): {
        "hidden_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "intermediate_dim": 12,
        "patch_length": 4,
        "stride": 3,
    },
    ("video", "cnn3d"): {"filters": (8, 16), "depths": (1, 1), "hidden_dim": 6},
    ("video", "r2plus1d"): {"filters": (8, 16), "depths": (1, 1)},
    ("video", "frames_lstm"): {"encoder": {"name": "cnn", "filters": (8, 8)}, "hidden_dim": 6},
    ("video", "frames_transformer"): {
        "encoder": {"name": "cnn", "filters": (8, 8)},
        "hidden_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "dropout": 0.0,
    },
    ("video", "vivit"): {
        "patch": 4,
        "hidden_dim": 8,
        "num_heads": 2,
        "intermediate_dim": 12,
        "num_layers": 1,
        "num_temporal_layers": 1,
    },
    ("several", "shared"): {"encoder": {"name": "cnn", "filters": (8, 16)}},
}


def spec_of(kind, encoder):
    """The tiny spec that an encoder is tested on."""
    return OF_ENCODER.get((kind, encoder), SPECS[kind])


def random_value(rng, modality, batch):
    """Random decoded values of a modality: (B, *shape)."""
    shape = (batch, *modality.shape)
    if modality.item is not modality:
        return random_value(rng, modality.item, batch * modality.count).reshape(shape)
    if modality.kind in ("image", "video"):
        return rng.integers(0, 256, shape).astype("uint8")
    if modality.kind == "text":
        return rng.integers(0, len(modality.vocabulary), shape).astype("int32")
    value = rng.uniform(-1, 1, shape)
    if modality.kind == "table":
        ids = rng.integers(0, modality.sizes, (batch, len(modality.sizes)))
        value[:, len(modality.numeric) :] = ids
    return value.astype(modality.dtype)


def random_mask(rng, modality, batch):
    """Row 0 is whole, row 1 absent; of a sequence the others end early, the last has holes."""
    if modality.item is not modality:
        mask = random_mask(rng, modality.item, batch * modality.count)
        mask = mask.reshape(batch, *modality.mask_shape)
        mask[:2] = np.reshape([True, False], (2, *[1] * len(modality.mask_shape)))
        return mask
    if not modality.mask_shape:
        mask = rng.random(batch) < 0.5
        mask[:2] = True, False
        return mask
    length = modality.mask_shape[0]
    mask = np.arange(length) < rng.integers(1, length + 1, (batch, 1))
    mask[:2] = [[True], [False]]
    mask[-1] = rng.random(length) < 0.5
    return mask


def random_batch(name, modality, batch=5, seed=0):
    """`{name: value, name_mask: mask}`; the value behind the mask is random."""
    rng = np.random.default_rng(seed)
    return {
        name: random_value(rng, modality, batch),
        f"{name}_mask": random_mask(rng, modality, batch),
    }


def garbage(modality):
    """What may stand behind a false mask: any value of the dtype."""
    if modality.dtype == "uint8":
        return (7, 255)
    if modality.dtype == "int32":
        return (3, -1, 10**9)
    return (0.5, 3e38, np.nan, np.inf)


def refill(batch, name, value):
    """Returns the batch with `value` behind every false mask."""
    mask = batch[f"{name}_mask"]
    mask = mask.reshape(mask.shape + (1,) * (batch[name].ndim - mask.ndim))
    filled = np.where(mask, batch[name], np.array(value).astype(batch[name].dtype))
    return {**batch, name: filled}
