"""Packaging of mmkeras; all metadata is here."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mmkeras/__init__.py").read_text())[1]

# Publishing (warm-up requests, server files) and the gRPC client; the REST client needs neither.
SERVING = ["tensorflow-serving-api>=2.21,<2.22"]
# Peers of the benchmarks only, never needed by the library (PyTorch: the CPU build will do).
BENCH = [
    "librosa>=0.11",
    "pillow>=10",
    "simplejpeg>=1.8",
    "soundfile>=0.13",
    "tokenizers>=0.21",
    "torch>=2.6",
]
LITE = ["ai-edge-litert>=2.1,<3"]
ONNX = ["onnx>=1.18", "onnxruntime>=1.20", "tf2onnx>=1.17,<1.18"]
PARQUET = ["pyarrow>=16"]
TFDS = [
    "importlib-resources",
    "tensorflow-datasets>=4.9.8,<5",
]  # it imports what it does not declare
INDEX = ["faiss-cpu>=1.8", "scikit-learn>=1.4"]
VIDEO = ["av>=14"]
PLOT = ["matplotlib>=3.8", "pydot>=3"]
SEARCH = ["keras-tuner[bayesian]>=1.4.7,<1.5"]
# Reading Ogg Vorbis and other sounds for a one-off conversion to WAV.
SOUND = ["soundfile>=0.13"]
DEV = [
    "jax>=0.5",
    "pandas>=2.2",
    "pillow>=10",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
    "scipy>=1.12",
    *INDEX,
    *LITE,
    *ONNX,
    *PARQUET,
    *PLOT,
    *SEARCH,
    *SERVING,
    *SOUND,
    *TFDS,
    *VIDEO,
]

setup(
    name="mmkeras",
    version=VERSION,
    description="Multimodal learning with Keras and TensorFlow, from raw columns to a served model",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["mmkeras", "mmkeras.*"]),
    python_requires=">=3.11,<3.14",
    # A few private Keras names are needed (mmkeras/training/private.py), hence the minor versions.
    install_requires=[
        "keras>=3.15.1,<3.16",
        "keras-cv>=0.9,<0.10",
        "keras-nlp>=0.32,<0.33",
        "numpy>=1.26",
        "tensorboard>=2.21,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-text>=2.21.1,<2.22",
        "wrapt>=1.14",
    ],
    extras_require={
        "bench": BENCH,
        "dev": DEV,
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "index": INDEX,
        "lite": LITE,
        "onnx": ONNX,
        "parquet": PARQUET,
        "plot": PLOT,
        "search": SEARCH,
        "serving": SERVING,
        "sound": SOUND,
        "tfds": TFDS,
        "video": VIDEO,
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
