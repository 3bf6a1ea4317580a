"""The momentum copy and the queue in training: against a simulation, saved, resumed, guarded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import state
from tests.training.interrupted import Interrupt

K, RATE, SOFT = 11, 0.8, 0.3
SPECS = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}


def model_of(dropout=0.0, compiled=True, **options):
    keras.utils.set_random_seed(1)
    encoders = {name: {"name": "mlp", "dropout": dropout} for name in SPECS}
    objective = mk.objectives.MomentumContrastive(4, K, momentum=RATE, soft=SOFT)
    model = mk.assemble(SPECS, encoders, heads={"match": objective})
    if compiled:
        model.compile(keras.optimizers.SGD(0.5, momentum=0.5), **{"jit": False, **options})
    return model


def batch_of(step, rows=6):
    rng = np.random.default_rng(step)
    x = {name: rng.standard_normal((rows, 3)).astype("float32") for name in SPECS}
    return {**x, "a_mask": rng.random(rows) < 0.8, "b_mask": rng.random(rows) < 0.9}


def held(model):
    """The state by its name: copies of the weights, and the queue."""
    momentum = model._mm_joint.momenta["match"]
    copies = {v.path: np.array(c) for v, c in zip(momentum.weights, momentum.copies, strict=True)}
    return copies, np.array(momentum.queue)


def loss_of(e, keys, queue, scale):
    """The formula with loops."""
    there = np.flatnonzero(e.any(-1).all(1))
    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        candidates = np.array([keys[i, other] for i in there] + queue[other])
        for place, i in enumerate(there):
            z, t = (scale * candidates @ v[i, one] for v in (e, keys))
            target = SOFT * np.exp(t) / np.exp(t).sum()
            target[place] += 1.0 - SOFT
            total += (np.log(np.exp(z).sum()) - target @ z) / 2 / len(there)
    return total


def test_six_steps_are_those_of_a_second_model_that_follows():
    model, teacher = model_of(), model_of(compiled=False)
    model.set_weights([2.0 * w for w in model.get_weights()])  # loaded after compile
    for variable in model._mm_joint.momenta["match"].copies:
        variable.assign(np.full(variable.shape, 9.0))  # until the first step
    weights = {v.path: v.numpy() for v in model.trainable_variables}
    model.make_train_function()
    queue = [[], []]
    for step in range(6):
        x = batch_of(step)
        for variable in teacher.trainable_variables:
            variable.assign(weights[variable.path])
        keys, e = (m.predict_on_batch(x)["match"] for m in (teacher, model))
        scale = float(model.get_layer("match").inverse_temperature())
        expected = loss_of(e, keys, queue, scale)
        model.reset_metrics()
        assert model.train_on_batch(x, {}, return_dict=True)["loss"] == pytest.approx(
            expected, rel=1e-5
        )
        for m in range(2):
            queue[m] = (queue[m] + [row for row in keys[:, m] if row.any()])[-K:]
        weights = {
            v.path: RATE * weights[v.path] + (1 - RATE) * v.numpy()
            for v in model.trainable_variables
        }
        copies, kept = held(model)
        for path, value in copies.items():
            np.testing.assert_allclose(value, weights[path], rtol=1e-5, atol=1e-6, err_msg=path)
        for m in range(2):
            real = kept[m][K - len(queue[m]) :]
            np.testing.assert_allclose(real, np.array(queue[m]), rtol=1e-5, atol=1e-6)
            assert not kept[m][: K - len(queue[m])].any()
    assert len(queue[0]) == K > 6  # more than a batch, and full
    assert not any("momentum" in v.path for v in model.trainable_variables)


def test_compiled_again_with_a_used_optimizer_the_copy_is_the_model():
    model = model_of()
    model.train_on_batch(batch_of(0), {})
    model.compile(model.optimizer, jit=False)
    model.make_train_function()
    copies, _ = held(model)
    for variable in model.trainable_variables:
        np.testing.assert_array_equal(copies[variable.path], variable.numpy())


@pytest.mark.parametrize("options", [{"jit": True}, {"accumulate_steps": 3}])
def test_xla_and_micro_batches_change_nothing(options):
    models = [model_of(), model_of(**options)]
    for step in range(4):
        logs = [m.train_on_batch(batch_of(step), {}) for m in models]
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    for one, other in zip(*(m.variables for m in models), strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=2e-6)


def test_evaluation_has_no_queue_and_changes_nothing():
    model = model_of()
    model.train_on_batch(batch_of(0), {})
    plain = mk.assemble(SPECS, heads={"match": mk.objectives.Contrastive(4)})
    plain.compile("sgd", jit=False)
    for one, other in zip(plain.trainable_variables, model.trainable_variables, strict=True):
        one.assign(other)
    before = [v.numpy() for v in model.variables]
    logs = [m.test_on_batch(batch_of(1), {}, return_dict=True) for m in (model, plain)]
    assert logs[0]["match_loss"] == pytest.approx(logs[1]["match_loss"], rel=1e-6)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_saved_model_goes_on_and_a_bare_one_has_no_queue(tmp_path):
    model = model_of()
    for step in range(3):
        model.train_on_batch(batch_of(step), {})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for m in (model, loaded):
        m.train_on_batch(batch_of(3), {})
    for one, other in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(other.numpy(), one.numpy(), err_msg=one.path)
    bare = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert len(bare.variables) == len(model_of(compiled=False).variables) < len(model.variables)
    model.compile("sgd", jit=False)
    assert not held(model)[1].any()  # a new training, a new queue
    assert sum(v.path.endswith("queue") for v in model.variables) == 1


def rows_of(count=24, size=6, spoiled=None):
    parts = [batch_of(step, size) for step in range(count // size)]
    if spoiled is not None:
        parts[spoiled]["a"][:] = np.nan
        parts[spoiled]["a_mask"][:] = True
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return tf.data.Dataset.from_tensor_slices((whole, {})).batch(size, drop_remainder=True)


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path):
    def run(folder, *extra):
        model = model_of(dropout=0.3)
        resume = mk.training.Resume(tmp_path / folder, every_steps=2)
        model.fit(rows_of(), epochs=3, verbose=0, callbacks=[resume, *extra])
        return model

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", Interrupt("step", 7))
    again = run("cut", Interrupt("never", 0))
    assert held(whole)[1].any(-1).all()
    for one, other in zip(whole.variables, again.variables, strict=True):
        for a, b in zip(state.parts(one), state.parts(other), strict=True):
            assert a.tobytes() == b.tobytes(), one.path


def test_a_step_that_is_not_finite_leaves_copy_and_queue(tmp_path):
    def run(data):
        model = model_of()
        guard = mk.training.NonFiniteGuard(tmp_path / "bad", "skip")
        model.fit(data, epochs=1, verbose=0, callbacks=[guard])
        return held(model)

    with pytest.warns(UserWarning, match="Step 2 is not finite"):
        found = run(rows_of(spoiled=2))
    expected = run(rows_of().take(2).concatenate(rows_of().skip(3)))
    np.testing.assert_array_equal(found[1], expected[1])
    for path, value in expected[0].items():
        np.testing.assert_array_equal(found[0][path], value)


def test_a_queue_larger_than_the_data_is_refused():
    with pytest.raises(
        ValueError, match="`queue` must be below .*Received: queue=11 for 6 samples"
    ):
        model_of().fit(rows_of(6), epochs=1, verbose=0)
    x = batch_of(0)
    with pytest.raises(ValueError, match="queue=11 for 6 samples. Choose a smaller one"):
        model_of().fit(x, {}, verbose=0)
    # Of a stream nobody knows the length: the queue fills with what comes.
    model = model_of()
    model.fit(rows_of(6).repeat(), steps_per_epoch=3, epochs=1, verbose=0)
    assert held(model)[1].any()


def test_labels_are_refused():
    with pytest.raises(ValueError, match="keys and not their labels.*'match'"):
        model_of().train_on_batch(batch_of(0), {"match": np.arange(6)})


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"momentum": 1.5}, {"soft": -0.1}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must"):
        mk.objectives.MomentumContrastive(**wrong)
