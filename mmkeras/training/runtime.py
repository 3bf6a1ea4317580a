"""Strategy, precision and seeds: what a script sets before it builds a model."""

import os
import re
from pathlib import Path

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.training import workers

_CACHE = "--tf_xla_persistent_cache_directory"


def strategy(spec: str = "auto") -> tf.distribute.Strategy:
    """Returns a distribution strategy; build and compile the model inside its `scope()`.

    Args:
        spec: "auto": the workers of TF_CONFIG when it names several; else mirrored over the
            visible GPUs when there are several; else the default (one device). "mirrored":
            MirroredStrategy over all GPUs, or the one CPU. "cpu:N": MirroredStrategy over N
            logical CPU devices, for tests of exactness. "workers": MultiWorkerMirroredStrategy
            over the processes of TF_CONFIG, each with its visible GPUs or its CPU. The last two
            must come before TensorFlow is used.

    Raises:
        ValueError: unknown spec, or "workers" without a TF_CONFIG of several processes.
        RuntimeError: "cpu:N" or "workers" after TensorFlow has made its devices.
    """
    if spec == "workers" or (spec == "auto" and workers.several()):
        return workers.strategy()
    gpus = tf.config.list_physical_devices("GPU")
    if spec == "auto":
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    if spec == "mirrored":
        return tf.distribute.MirroredStrategy()
    match = re.fullmatch(r"cpu:([1-9]\d*)", spec)
    if not match:
        raise ValueError(
            f"A strategy must be 'auto', 'mirrored', 'workers' or 'cpu:N'. Received: {spec!r}. "
            "Any tf.distribute strategy of your own works too: use its scope()."
        )
    count = int(match[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) != count:
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * count
            )
        except RuntimeError as error:
            raise RuntimeError(
                f"'{spec}' must be asked for before TensorFlow is used. Call "
                "mk.training.strategy(...) first thing in the script."
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def precision(policy: str = "float32") -> keras.DTypePolicy:
    """Sets the precision of the layers built from now on and returns the policy.

    Args:
        policy: "float32", "mixed_bfloat16" or "mixed_float16" (with loss scaling, which Keras
            adds at compile). Weights, heads and losses stay float32.
    """
    checks.one_of("policy", policy, ("float32", "mixed_bfloat16", "mixed_float16"))
    keras.mixed_precision.set_global_policy(policy)
    return keras.mixed_precision.global_policy()


def seed(value: int, *, deterministic: bool = False) -> None:
    """Seeds Python, NumPy, Keras and TensorFlow.

    Args:
        value: the seed.
        deterministic: also ask TensorFlow for deterministic ops (slower on a GPU).
    """
    keras.utils.set_random_seed(checks.whole("seed", value, 0))
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def xla_cache(folder: str | os.PathLike) -> Path:
    """Keeps what XLA compiles on disk, so that the next process with the same model starts faster.

    Call it first thing in the script; it works for every model with `jit=True` on a CPU or GPU.
    What is left of the first step is tracing. A folder belongs to one kind of machine and one
    version of TensorFlow; delete it to start anew.

    Args:
        folder: of the compiled programs, one file each; made if missing.

    Returns:
        The folder.

    Raises:
        RuntimeError: TensorFlow has made its devices, and with them read its flags.
    """
    folder = Path(folder).absolute()
    if any(c.isspace() for c in str(folder)):
        raise ValueError(f"The folder must have no spaces in its path. Received: {str(folder)!r}.")
    before = os.environ.get("TF_XLA_FLAGS", "")
    kept = [flag for flag in before.split() if not flag.startswith(_CACHE)]
    # Set before the question below, which already makes TensorFlow read its flags.
    os.environ["TF_XLA_FLAGS"] = " ".join([*kept, f"{_CACHE}={folder}"])
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    try:  # whether the devices are made: may what is fixed with them still be changed?
        tf.config.threading.set_inter_op_parallelism_threads(threads + 1)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        os.environ["TF_XLA_FLAGS"] = before
        raise RuntimeError(
            "xla_cache(...) must be called before TensorFlow is used, because XLA reads its flags "
            "when the devices are made. Call it first thing in the script, before a strategy, a "
            "model or a tensor."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    return folder
