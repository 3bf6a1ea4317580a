"""A series as a picture: its channels as lines, drawn with NumPy alone."""

import numpy as np

COLOURS = np.array(
    [[31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189], [140, 86, 75]],
    np.uint8,
)


def line_plot(
    values: np.ndarray, mask: np.ndarray, height: int = 96, width: int = 256
) -> np.ndarray:
    """Returns uint8 (height, width, 3): a line per channel on white, scaled to the real steps.

    Args:
        values: (T, C).
        mask: bool (T,); there is no line next to a step that is not there.
        height, width: of the picture, in pixels.
    """
    picture = np.full((height, width, 3), 255, np.uint8)
    real = values[mask]
    if not len(real):
        return picture
    low, high = float(real.min()), float(real.max())
    scaled = (values - low) / (high - low if high > low else 1.0)
    place = np.linspace(0, len(values) - 1, width)
    below, above = np.floor(place).astype(int), np.ceil(place).astype(int)
    drawn = mask[below] & mask[above]
    share = (place - below)[:, None]
    lines = scaled[below] * (1 - share) + scaled[above] * share  # (width, C)
    rows = np.round((1 - np.clip(lines, 0, 1)) * (height - 1)).astype(int)
    for channel in range(values.shape[1]):
        for column in np.flatnonzero(drawn):
            joined = column - 1 if column and drawn[column - 1] else column
            top, bottom = sorted(rows[[joined, column], channel])
            picture[top : bottom + 1, column] = COLOURS[channel % len(COLOURS)]
    return picture
