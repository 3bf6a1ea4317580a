"""Data on tf.data: sources, decoding, augmentation, batches, checks, embedded scenes (rank 1)."""

from mmkeras.data import scenes
from mmkeras.data.check import Report, check
from mmkeras.data.dataset import Data, Split
from mmkeras.data.kinds import decoder
from mmkeras.data.profile import InputProfile, profile
from mmkeras.data.service import distribute
from mmkeras.data.table import table
from mmkeras.data.video_files import convert_videos

__all__ = [
    "Data",
    "InputProfile",
    "Report",
    "Split",
    "check",
    "convert_videos",
    "decoder",
    "distribute",
    "profile",
    "scenes",
    "table",
]
