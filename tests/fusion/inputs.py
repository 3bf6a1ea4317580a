"""Random inputs of a fusion: tokens and masks of three modalities of different length and width."""

import numpy as np

LENGTHS = {"image": 5, "text": 3, "numbers": 1}
WIDTHS = {"image": 7, "text": 4, "numbers": 6}
NAMES = tuple(LENGTHS)
HIDDEN = 8


def random_masks(rng, names=NAMES, batch=5, special=True):
    """Masks with holes. With `special` row 0 is whole, row 1 all absent, row 2 lacks a modality."""
    masks = {m: rng.random((batch, LENGTHS[m])) < 0.6 for m in names}
    if special:
        for m in names:
            masks[m][0], masks[m][1:2] = True, False
        masks[names[0]][2:3] = False
    return masks


def random_inputs(rng, names=NAMES, batch=5, special=True):
    """`{name: {"tokens": (B, T, D) float32, "mask": (B, T)}}`."""
    masks = random_masks(rng, names, batch, special)
    return {
        m: {
            "tokens": rng.standard_normal((batch, LENGTHS[m], WIDTHS[m])).astype("float32"),
            "mask": masks[m],
        }
        for m in names
    }


def refill(inputs, fill):
    """Returns the inputs with `fill(shape)` behind every false mask."""
    return {
        m: {
            "tokens": np.where(
                part["mask"][:, :, None], part["tokens"], fill(part["tokens"].shape)
            ).astype("float32"),
            "mask": part["mask"],
        }
        for m, part in inputs.items()
    }


def unit(cls, names=NAMES, **arguments):
    """Returns a fusion class as a unit of the contract."""
    from tests.contract import Unit  # TensorFlow

    return Unit(
        lambda **kw: cls(names, hidden_dim=HIDDEN, **{**arguments, **kw}),
        lambda rng: (random_inputs(rng, names),),
    )
