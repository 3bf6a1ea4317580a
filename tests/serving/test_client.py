"""The client against everything that serves the published model; faults and retries by REST."""

import base64
import gc
import io
import json
import socket
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import mmkeras as mk
from mmkeras.serving import client as module
from mmkeras.serving.errors import Refused
from tests.serving import double
from tests.serving.conftest import SPECS

ATOL = 5e-6  # a batch of another size orders its sums otherwise


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)


def equal(got, expected):
    assert set(got) == set(expected)
    for name, value in expected.items():
        if value.dtype == object:
            assert got[name].tolist() == np.vectorize(bytes.decode)(value).tolist()
        elif value.dtype.kind == "f":
            np.testing.assert_allclose(got[name], value, atol=ATOL)
        else:
            np.testing.assert_array_equal(got[name], value)


def test_signature_is_learnt_from_the_server(url):
    read = mk.serving.Client(url, "vqa").signature
    assert set(read.inputs) == set(SPECS)
    for name, spec in SPECS.items():
        assert read.inputs[name].shape == spec.raw_shape, name
        assert read.inputs[name].default is not None, name
    assert read.inputs["motion"].default.tolist() != read.inputs["motion"].default.tolist()  # NaN
    assert {"answer", "answer_scores", "answer_label"} <= set(read.outputs)


def test_all_forms_in_several_requests(url, published, model, tmp_path):
    """Paths, bytes, text, PIL, NumPy, lists and what is missing: as the session answers them."""
    raw = published[2].raw("train", range(5))
    (tmp_path / "picture").write_bytes(raw["image"][0])
    pictures = [Pillow.open(io.BytesIO(data)).convert("RGB") for data in raw["image"]]
    held = np.asarray(pictures[2])
    given = {
        "image": [tmp_path / "picture", pictures[1], held, raw["image"][3], None],
        "question": [data.decode() for data in raw["question"]],
        "sound": list(raw["sound"]),
        "numbers": raw["numbers"].astype("float64"),
        "motion": [raw["motion"][0][:2], *raw["motion"][1:]],
        "views": [[view or None for view in row] for row in raw["views"]],
    }
    direct = dict(raw)
    direct["image"] = np.append(raw["image"][:4], b"")
    direct["facts"] = np.full((5, 2), b"", object)
    direct["motion"] = raw["motion"].copy()
    direct["motion"][0, 2:] = np.nan
    client = mk.serving.Client(url, "vqa", batch_size=2)
    equal(client.predict(given), model.run("serving_default", direct))


def test_a_question_alone(url, model):
    asked = {"question": ["is there a red circle?", "how many shapes?"]}
    direct = {"question": np.array([text.encode() for text in asked["question"]], object)}
    equal(mk.serving.Client(url, "vqa").predict(asked), model.run("serving_default", direct))


def test_what_the_server_does_not_have(url):
    with pytest.raises(
        LookupError, match="(Servable not found|Could not find).*Check name and version"
    ):
        mk.serving.Client(url, "nothing").predict({"question": ["?"]})
    with pytest.raises(ValueError, match="no signature 'nothing'. It has: .*serving_default"):
        mk.serving.Client(url, "vqa", signature_name="nothing").predict({"question": ["?"]})


def test_what_is_wrong_is_said_before_anything_is_sent(rest):
    client = mk.serving.Client(rest.url, "vqa")
    client.signature  # noqa: B018
    asked = len(rest.asked)
    with pytest.raises(ValueError, match="takes the inputs facts, image.*Received: picture"):
        client.predict({"picture": [b""]})
    with pytest.raises(ValueError, match="same number of rows.*'image': 2, 'question': 1.*None"):
        client.predict({"image": [b"", b""], "question": ["?"]})
    with pytest.raises(ValueError, match="at least one. Received: {}"):
        client.predict({})
    with pytest.raises(TypeError, match=r"'question' must be a list of rows.*str.*\[\.\.\.\]"):
        client.predict({"question": "how many?"})
    with pytest.raises(FileNotFoundError, match="Input 'image', row 1"):
        client.predict({"image": [b"", Path("/nothing/here.png")]})
    assert rest.asked[asked:] == ["/v1/models/vqa/metadata"], "a new version may take a picture"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"url": "localhost:8501"}, "must begin with http://.*'localhost:8501'.*8500"),
        ({"url": "http://host:port"}, "must be http://host:port.*'http://host:port'"),
        ({"url": "http://name:word@host"}, "must be http://host:port.*word@host"),
        ({"url": "http://a", "batch_size": 0}, "`batch_size` must be >= 1.*batch_size=0"),
        ({"url": "http://a", "timeout": 0}, "`timeout` > 0.*timeout=0"),
    ],
)
def test_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        mk.serving.Client(model="vqa", **arguments)


def test_versions(published, rest):
    number = int(published[1].name)
    assert mk.serving.Client(rest.url, "vqa", version=number).signature.inputs
    with pytest.raises(LookupError):
        mk.serving.Client(rest.url, "vqa", version=number + 1).signature  # noqa: B018
    assert rest.asked == [f"/v1/models/vqa/versions/{n}/metadata" for n in (number, number + 1)]


@pytest.mark.parametrize("fault", [503, 429, "drop", "late"])
def test_tries_again(rest, fault):
    client = mk.serving.Client(rest.url, "vqa", timeout=0.3 if fault == "late" else 10.0)
    client.signature  # noqa: B018
    before = len(rest.asked)
    rest.faults[:] = [fault] * 2
    assert client.predict({"question": ["?"]})["answer_label"].shape == (1,)
    # A kept connection that is dropped is opened again at once, within the same try.
    assert len(rest.asked) == before + 3


@pytest.mark.parametrize(
    ("fault", "kind", "asked"),
    [
        (503, ConnectionError, 2),
        ("late", TimeoutError, 2),
        (500, RuntimeError, 1),
        (404, LookupError, 1),
    ],
)
def test_gives_up(rest, fault, kind, asked):
    client = mk.serving.Client(rest.url, "vqa", retries=1, timeout=0.3)
    rest.faults[:] = [fault] * 9
    with pytest.raises(kind, match="127.0.0.1:.*/v1/models/vqa/metadata answered: "):
        client.predict({"question": ["?"]})
    assert len(rest.asked) == asked


def test_waits_for_a_model(rest):
    rest.faults[:] = [404, "drop", 503]
    mk.serving.Client(rest.url, "vqa").wait(20)
    assert len(rest.asked) == 4
    with pytest.raises(LookupError, match="Servable not found"):
        mk.serving.Client(rest.url, "nothing").wait(0.0)


def test_threads_share_a_client(rest, model):
    client = mk.serving.Client(rest.url, "vqa", batch_size=3)
    questions = [f"is there a {colour} circle?" for colour in ("red", "green", "blue", "grey")] * 2
    direct = {"question": np.array([q.encode() for q in questions], object)}
    expected, got = model.run("serving_default", direct)["answer"], [None] * 4

    def ask(i):
        got[i] = client.predict({"question": questions})["answer"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in got:
        np.testing.assert_allclose(answer, expected, atol=ATOL)


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_a_request_by_hand(url, published, form):
    """What `curl -d` sends: every input by name, bytes as {"b64": ...}, "" and NaN for absent."""
    if not url.startswith("http"):
        return
    raw = published[2].raw("train", [0])
    picture = {"b64": base64.b64encode(raw["image"][0]).decode("ascii")}
    nan = float("nan")
    row = {"image": picture, "question": "how many shapes?", "sound": "", "numbers": [nan, nan]}
    row |= {"motion": [[nan, nan]], "facts": ["", ""], "views": ["", ""]}
    asked = {"instances": [row], "inputs": {name: [value] for name, value in row.items()}}
    body = json.dumps({form: asked[form]}).encode()
    with urllib.request.urlopen(f"{url}/v1/models/vqa:predict", body) as response:
        answer = json.loads(response.read())
    scores = answer.get("outputs", {}).get("answer_scores") or [
        one["answer_scores"] for one in answer["predictions"]
    ]
    client = mk.serving.Client(url, "vqa")
    expected = client.predict({"image": raw["image"], "question": ["how many shapes?"]})
    np.testing.assert_allclose(scores, expected["answer_scores"], atol=ATOL)


def test_rest_refuses_what_leaves_an_input_out(rest):
    """The fact that the client is built on: defaults are not for REST."""
    server = mk.serving.Client(rest.url, "vqa")._server
    question = {"question": np.array([b"?"], object)}
    with pytest.raises(Refused, match=r"Missing named input: \w+ in 'inputs' object"):
        server.predict("serving_default", question, {})


class Picky:
    """A server that refuses rows whose first number is negative, and rows that are 7 together."""

    def __init__(self, client):
        self.told, self.batches = client._server.metadata(), []

    def predict(self, name, tensors, outputs):
        numbers = tensors["numbers"][:, 0]
        self.batches.append(len(numbers))
        if (numbers < 0).any() or len(numbers) == 7:
            raise Refused("told to refuse")
        return dict.fromkeys(outputs, numbers)

    def metadata(self):
        return self.told


@pytest.mark.parametrize("bad", [0, 5, 10, 11])
def test_a_refusal_names_input_and_row(rest, bad):
    client = mk.serving.Client(rest.url, "vqa", batch_size=8)
    client._server = Picky(client)
    numbers = np.ones((12, 2))
    numbers[bad] = -1
    with pytest.raises(ValueError, match=f"^Input 'numbers', row {bad}: told to refuse"):
        client.predict({"numbers": numbers, "question": ["?"] * 12})
    assert len(client._server.batches) <= 2 + 1 + 3 + len(SPECS)


def test_a_refusal_of_all_rows_together(rest):
    client = mk.serving.Client(rest.url, "vqa", batch_size=7)
    client._server = Picky(client)
    numbers = np.arange(28.0).reshape(14, 2)
    asked = {"numbers": numbers, "question": ["?"] * 14}
    for batches in ([7, 4, 4, 4, 2], [4, 4, 4, 2]):  # the second time it is known
        client._server.batches.clear()
        np.testing.assert_array_equal(client.predict(asked)["answer"], numbers[:, 0])
        assert client._server.batches == batches


def test_a_server_that_takes_fewer_rows(rest, model, monkeypatch):
    run = model.run

    def few(name, tensors):
        if len(tensors["question"]) > 8:
            raise ValueError("Task size is larger than maximum input batch size 8")
        return run(name, tensors)

    monkeypatch.setattr(model, "run", few)
    texts = [f"how many {i}?" for i in range(20)]
    expected = run("serving_default", {"question": np.array([t.encode() for t in texts], object)})
    client = mk.serving.Client(rest.url, "vqa")
    equal(client.predict({"question": texts}), expected)
    asked = len(rest.asked)
    equal(client.predict({"question": texts}), expected)
    assert len(rest.asked) == asked + 4, "5 rows each"


@pytest.fixture(params=[double.Rest, double.Rpc])
def doubled(request, model):
    server = request.param(model)
    yield server.url
    if request.param is double.Rpc:
        server.server.stop(None)
    else:
        server.shutdown()
        server.server_close()


def test_a_version_with_other_outputs_is_asked_by_its_metadata(doubled, model, monkeypatch):
    changed = {}
    for name, held in model.signatures.items():
        changed[name] = type(held).FromString(held.SerializeToString())
        if "answer" in held.outputs:
            changed[name].outputs["reply"].CopyFrom(held.outputs["answer"])
            del changed[name].outputs["answer"]
    with mk.serving.Client(doubled, "vqa", batch_size=2) as client:
        asked = {"question": ["is there a red circle?", "how many shapes?", "?"]}
        before = client.predict(asked)
        monkeypatch.setattr(model, "signatures", changed)
        after = client.predict(asked)
        np.testing.assert_allclose(after["reply"], before["answer"], atol=ATOL)
        assert set(after) == set(client.signature.outputs) and "answer" not in after
        run = model.run
        kept = ("answer_label", "bad_input")
        monkeypatch.setattr(model, "run", lambda *a: {name: run(*a)[name] for name in kept})
        without = r"Received: \['answer_label', 'bad_input'\], without .*'reply'\].*ask again"
        with pytest.raises(RuntimeError, match=without):
            client.predict(asked)


def renamed(model, old, new):
    """The signatures of a version that calls an input otherwise."""
    changed = {}
    for name, held in model.signatures.items():
        changed[name] = type(held).FromString(held.SerializeToString())
        if old in held.inputs:
            for part in (changed[name].inputs, changed[name].defaults):
                part[new].CopyFrom(part[old])
                del part[old]
    return changed


def test_a_version_with_other_inputs_is_asked_by_its_metadata(doubled, model, monkeypatch):
    texts, numbers = ["is there a red circle?", "?"], np.ones((2, 2))
    with mk.serving.Client(doubled, "vqa") as client:
        by_old = client.predict({"question": texts})
        without = client.predict({"numbers": numbers})
        monkeypatch.setattr(model, "signatures", renamed(model, "question", "text"))
        equal_floats(client.predict({"numbers": numbers}), without)
        monkeypatch.setattr(model, "signatures", renamed(model, "text", "asked"))
        equal_floats(client.predict({"asked": texts}), by_old)
        with pytest.raises(ValueError, match="takes the inputs .*asked.*Received: question"):
            client.predict({"question": texts})


def equal_floats(got, expected):
    np.testing.assert_allclose(got["answer"], expected["answer"], atol=ATOL)


def test_too_large_a_request_is_sent_in_parts(rest):
    client = mk.serving.Client(rest.url, "vqa")
    client.signature  # noqa: B018
    rest.faults[:] = [413]
    assert client.predict({"question": ["?", "how many?"]})["answer_label"].shape == (2,)
    assert [path.rsplit("/", 1)[-1] for path in rest.asked[1:]] == [
        "vqa:predict",
        "metadata",
        "vqa:predict",
        "vqa:predict",
    ]


def test_grpc_finds_a_server_that_comes_late(model, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mk.serving.Client(f"grpc://127.0.0.1:{port}", "vqa", retries=0) as client:
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:.*Is the server up"):
            client.predict({"question": ["?"]})
    with mk.serving.Client(f"grpc://127.0.0.1:{port}", "vqa", retries=8) as client:
        started = []
        timer = threading.Timer(0.5, lambda: started.append(double.Rpc(model, port)))
        timer.start()
        assert client.predict({"question": ["?"]})["answer_label"].shape == (1,)
        timer.join()
    started[0].server.stop(None)


def test_threads_that_end_leave_no_connection(rest):
    client = mk.serving.Client(rest.url, "vqa")
    for _ in range(3):
        thread = threading.Thread(target=client._server.metadata)
        thread.start()
        thread.join()
    gc.collect()
    assert not client._server._opened


def test_closing_ends_the_connections_of_all_threads(rest):
    asked, end = threading.Barrier(3), threading.Event()

    def ask():
        client._server.metadata()
        asked.wait(20)
        end.wait(20)

    with mk.serving.Client(rest.url, "vqa") as client:
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        asked.wait(20)
        opened = list(client._server._opened)
        assert len(opened) == 2 and all(connection.sock is not None for connection in opened)
    assert all(connection.sock is None for connection in opened)
    end.set()
    for thread in threads:
        thread.join()
    assert client.predict({"question": ["?"]})["answer_label"].shape == (1,), "it opens a new one"
    client.close()
