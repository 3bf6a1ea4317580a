"""Rows of three modalities with what is absent, and every masked objective on them."""

import numpy as np

import mmkeras as mk
from mmkeras.objectives import MaskedFrames, MaskedPatches, MaskedText

WORDS = ("[PAD]", "[UNK]", "[MASK]", *"abcdefgh")
SPECS = {
    "image": mk.Image(size=(16, 20)),
    "text": mk.Text(length=6, mask_token=True, vocabulary=WORDS),
    "track": mk.Series(steps=10, channels=2, normalize=False),
}
ENCODERS = {
    "image": {"name": "vit", "num_layers": 1, "hidden_dim": 8, "num_heads": 2},
    "text": {"name": "transformer", "num_layers": 1, "hidden_dim": 8, "num_heads": 2},
    "track": {"name": "patchtst", "patch_length": 4, "stride": 2, "hidden_dim": 8, "num_heads": 2},
}
FUSION = {"name": "late_transformer", "num_layers": 1, "num_heads": 2}


def batch(rows=6):
    rng = np.random.default_rng(0)
    lengths = np.array([6, 0, 3, 5, 1, 6])[:rows]
    mask = np.arange(6) < lengths[:, None]
    steps = np.arange(10) < np.array([10, 10, 0, 7, 10, 1])[:rows, None]
    return {
        "image": rng.integers(0, 256, (rows, 16, 20, 3)).astype("uint8"),
        "image_mask": np.arange(rows) != 2,
        "text": np.where(mask, rng.integers(3, 11, (rows, 6)), 0).astype("int32"),
        "text_mask": mask,
        "track": rng.standard_normal((rows, 10, 2)).astype("float32"),
        "track_mask": steps,
    }


def heads():
    return {
        "words": MaskedText("text", rate=0.5),
        "helped_words": MaskedText("text", cross=True, num_heads=2),
        "patches": MaskedPatches("image", hidden_dim=8, num_heads=2),
        "helped_patches": MaskedPatches("image", cross=True, hidden_dim=8, num_heads=2),
        "frames": MaskedFrames("track", frames=2, hidden_dim=8, num_heads=2),
    }
