"""Every pipeline has its own threads, keeps its order, and copies nothing it captures."""

import numpy as np

import mmkeras as mk
from tests.data import files


def test_training_and_evaluation_run_tuned():
    rows = {"v": np.arange(12, dtype="float32").reshape(6, 2)}
    data = mk.data.table(rows, {"v": mk.Vector(size=2, normalize=False)}, valid=rows)
    train = data.train(2, shuffle=False)
    for dataset in (train, train.stream(), data.valid(2), data.batches("train", 4)):
        options = dataset.options()
        assert options.deterministic is True
        # Closing an iterator would wait for the autotuner's next look.
        assert options.autotune.enabled is False
        assert options.threading.private_threadpool_size >= 1
        assert options.threading.max_intra_op_parallelism == 1
        # The rewrites would copy the items once per iterator.
        assert options.experimental_optimization.apply_default_optimizations is False
    assert files.ids(train) == [[0, 2], [4, 6], [8, 10]]
