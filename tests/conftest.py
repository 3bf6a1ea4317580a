"""Shared fixtures: quiet TensorFlow, seeds, and the folder of real data sets."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh():
    """Every test starts from float32 and the same seeds."""
    keras.mixed_precision.set_global_policy("float32")
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets, from MMKERAS_DATA; where it is set, tests must not skip."""
    folder = os.environ.get("MMKERAS_DATA")
    if not folder:
        pytest.skip("MMKERAS_DATA does not name the folder of the real data sets")
    folder = Path(folder)
    assert (folder / "easy_vqa").is_dir(), f"MMKERAS_DATA={folder} has no easy_vqa"
    return folder.resolve()
