"""Data on tf.data: sources, decoding, augmentation, batches, checks, embedded scenes (rank 1)."""

from mmkeras.data import scenes
from mmkeras.data.check import Report, check
from mmkeras.data.dataset import Data, Split
from mmkeras.data.drop import Ramp
from mmkeras.data.kinds import decoder
from mmkeras.data.mix import Mix, mix
from mmkeras.data.profile import InputProfile, profile
from mmkeras.data.service import distribute
from mmkeras.data.shards import Shards, shards
from mmkeras.data.table import table
from mmkeras.data.tfds import tfds
from mmkeras.data.video_files import convert_videos
from mmkeras.data.write_shards import write_shards

__all__ = [
    "Data",
    "InputProfile",
    "Mix",
    "Ramp",
    "Report",
    "Shards",
    "Split",
    "check",
    "convert_videos",
    "decoder",
    "distribute",
    "mix",
    "profile",
    "scenes",
    "shards",
    "table",
    "tfds",
    "write_shards",
]
