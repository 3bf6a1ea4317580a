"""A contrastive model of coloured pictures and their names, trained in a second."""

import keras
import numpy as np

import mmkeras as mk

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220)}


def trained():
    """Returns model, data (48 training rows, the first 16 of them as `valid`) and those 16."""
    rng = np.random.default_rng(0)
    names = [list(COLORS)[i] for i in rng.integers(0, 3, 48)]
    shade = [np.clip(rng.normal(COLORS[n], 25, (8, 8, 3)), 0, 255).astype("uint8") for n in names]
    rows = {"image": shade, "text": [f"a picture of {n}" for n in names], "match": names}
    specs = {"image": mk.Image(size=8), "text": mk.Text(length=6)}
    part = {name: column[:16] for name, column in rows.items()}
    keras.utils.set_random_seed(0)
    classes = mk.Label(classes=tuple(COLORS))
    data = mk.data.table(rows, specs, {"match": classes}, valid=part)
    encoders = {"image": {"name": "cnn", "filters": (8,)}, "text": "bow"}
    model = mk.models.clip(data.modalities, encoders, dim=8)
    model.compile(keras.optimizers.Adam(0.01), jit=False)
    model.fit(data.train(24), epochs=15, verbose=0)
    return model, data, part
