"""TF_CONFIG from what a scheduler tells its processes: Slurm, torchrun-like, Kubernetes Jobs.

TF_CONFIG names every worker's address and this worker's number; TensorFlow reads it when a
MultiWorkerMirroredStrategy is made. The launcher of the job knows all of it under other names.
Sources: TensorFlow's guide "Distributed training with Keras" (TF_CONFIG), Slurm's srun manual
(output environment variables), the Kubernetes page on Indexed Jobs.
"""

import re
from collections.abc import Mapping, Sequence

PORT = 23456
_RANGE = r"\d+(?:-\d+)?"
_NODES = rf"[\w.-]*(?:\[{_RANGE}(?:,{_RANGE})*\][\w.-]*)*"


def tf_config(
    environ: Mapping[str, str], *, hosts: Sequence[str] = (), port: int | None = None
) -> dict | None:
    """Returns the TF_CONFIG of this process's rank, or None where no scheduler gives it one.

    Read, in this order: Slurm (`SLURM_PROCID`, `SLURM_NTASKS`, node list of the step or job,
    ranks laid out node by node as srun does by default), torchrun-like (`RANK`, `WORLD_SIZE`,
    `MASTER_ADDR`, `MASTER_PORT`), Kubernetes Indexed Job (`JOB_COMPLETION_INDEX`).

    Args:
        environ: the environment variables.
        hosts: names of all machines in rank order, where the scheduler does not tell them; for
            Kubernetes one per index, e.g. "train-0.train", "train-1.train".
        port: the first port; the k-th process of a machine listens on `port + k`. By default
            after MASTER_PORT, or 23456 plus the Slurm job number modulo 10,000.

    Raises:
        ValueError: the variables contradict each other, or the addresses cannot be known.
    """
    for source in (_slurm, _ranks, _indexed_job):
        found = source(environ, list(hosts), port)
        if found is not None:
            rank, addresses = found
            if not 0 <= rank < len(addresses):
                raise ValueError(
                    f"A rank must lie in 0..{len(addresses) - 1}, for {len(addresses)} processes. "
                    f"Received: {rank}. Check --hosts and the scheduler's variables."
                )
            return make(addresses, rank)
    return None


def make(addresses: Sequence[str], rank: int) -> dict:
    """Returns the TF_CONFIG of one worker among `addresses`; worker 0 is the chief."""
    return {
        "cluster": {"worker": list(addresses)},
        "task": {"type": "worker", "index": rank},
    }


def _slurm(environ: Mapping, hosts: list, port: int | None) -> tuple | None:
    count = environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1"))
    if "SLURM_PROCID" not in environ or _number("SLURM_NTASKS", count) == 1:
        return None
    listed = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST")
    if not listed and not hosts:
        raise ValueError(
            "Inside Slurm the node list must be known. Received: neither SLURM_STEP_NODELIST nor "
            "SLURM_JOB_NODELIST. Start with srun, or pass --hosts."
        )
    nodes = hosts or node_names(listed)
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE"))
    spread = _tasks_per_node(tasks) if tasks else _evenly(int(count), nodes)
    if len(spread) != len(nodes) or sum(spread) != int(count):
        raise ValueError(
            f"The tasks per node must sum up to {count} over {len(nodes)} nodes. Received: "
            f"{tasks!r}. Start with srun, and not inside another step."
        )
    job = int(re.sub(r"\D", "", environ.get("SLURM_JOB_ID", "")) or 0)
    base = port or PORT + job % 10_000
    return _number("SLURM_PROCID", environ["SLURM_PROCID"]), _addresses(nodes, spread, base)


def _ranks(environ: Mapping, hosts: list, port: int | None) -> tuple | None:
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        return None
    count = _number("WORLD_SIZE", environ["WORLD_SIZE"])
    one_machine = environ.get("LOCAL_WORLD_SIZE") == environ["WORLD_SIZE"] or environ.get(
        "MASTER_ADDR"
    ) in ("localhost", "127.0.0.1")
    if not hosts and not one_machine:
        raise ValueError(
            "RANK and WORLD_SIZE tell only the first machine's address "
            f"(MASTER_ADDR={environ.get('MASTER_ADDR')!r}), and TensorFlow needs all. Pass "
            "--hosts a,b,... in rank order."
        )
    nodes = hosts or ["localhost"]
    # MASTER_PORT itself is taken by the launcher that set it.
    base = port or (_number("MASTER_PORT", environ.get("MASTER_PORT", str(PORT))) + 1)
    return _number("RANK", environ["RANK"]), _addresses(nodes, _evenly(count, nodes), base)


def _indexed_job(environ: Mapping, hosts: list, port: int | None) -> tuple | None:
    if "JOB_COMPLETION_INDEX" not in environ:
        return None
    if not hosts:
        raise ValueError(
            "An Indexed Job tells a pod its index "
            f"(JOB_COMPLETION_INDEX={environ['JOB_COMPLETION_INDEX']}), not the others' names. "
            "Pass --hosts, e.g. --hosts train-0.train,train-1.train (pods of a headless service)."
        )
    rank = _number("JOB_COMPLETION_INDEX", environ["JOB_COMPLETION_INDEX"])
    return rank, _addresses(hosts, [1] * len(hosts), port or PORT)


def _number(name: str, text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{name} must be a whole number of at least 0. Received: {text!r}.")
    return int(text)


def _evenly(count: int, nodes: list) -> list[int]:
    if count % len(nodes):
        raise ValueError(
            f"{count} processes must divide evenly over {len(nodes)} machines. Received: {nodes}. "
            "Give every machine as many processes."
        )
    return [count // len(nodes)] * len(nodes)


def _addresses(nodes: Sequence[str], spread: Sequence[int], base: int) -> list[str]:
    return [
        f"{node}:{base + k}"
        for node, count in zip(nodes, spread, strict=True)
        for k in range(count)
    ]


def _tasks_per_node(text: str) -> list[int]:
    """Reads Slurm's "2(x3),1" as [2, 2, 2, 1]."""
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not match:
            raise ValueError(f"Slurm's tasks per node must look like '2(x3),1'. Received: {text!r}")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def node_names(text: str) -> list[str]:
    """Expands a Slurm node list: "gpu[01-03,7],login" -> gpu01, gpu02, gpu03, gpu7, login.

    Raises:
        ValueError: it is not such a list.
    """
    if not re.fullmatch(rf"{_NODES}(,{_NODES})*", text):
        raise ValueError(f"A node list must look like 'node[01-03,7],other'. Received: {text!r}.")
    parts = re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)
    return [name for part in parts for name in _expand(part)]


def _expand(part: str) -> list[str]:
    match = re.match(r"([^\[]*)\[([^\]]*)\](.*)", part)
    if not match:
        return [part]
    head, ranges, tail = match.groups()
    middles = []
    for piece in ranges.split(","):
        first, _, last = piece.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        middles += [str(number).zfill(len(first)) for number in numbers]
    return [head + middle + rest for middle in middles for rest in _expand(tail)]
