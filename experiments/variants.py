"""What smaller numbers cost: trained models as float32, bfloat16, float16 and int8.

    python -m experiments.variants --data DIR --runs runs/multi_task --out runs/variants [--quick]

The models of `experiments.multi_task` that weigh both losses by 1 (grocery: photos, a CNN;
easy_vqa: pictures and questions, a CNN, an LSTM and FiLM), each exported by `mk.export.variant`
and measured on the validation photos, the official test questions. A row is a set and a format;
accuracies, what they lose, and the share of the bytes of the weights. DIR, `--seeds` and `--quick`
(which takes float32 and int8 alone) are those of multi_task, whose runs `--runs` holds.
"""

import shutil
from pathlib import Path

import keras

import mmkeras as mk
from experiments import common, multi_task
from mmkeras.export.variants import PRECISIONS


def main() -> None:
    """Converts, measures and writes result.json."""
    args = common.arguments(
        __doc__,
        runs={"required": True, "type": Path, "help": "folder of multi_task's results"},
        rows={"default": "grocery,easy_vqa", "help": "which sets"},
    )
    results = common.Results("variants", args)

    def measure(name: str, precision: str, seed: int, folder: Path) -> dict:
        trained = args.runs / results.parts.name / f"{name}_fixed-{seed}" / "last.keras"
        model = keras.models.load_model(trained)
        data = multi_task.load(Path(args.data), name, args.quick, seed)
        path = folder / "export"
        shutil.rmtree(path, ignore_errors=True)
        found = mk.export.variant(model, data, path, precision, max_loss=1.0)
        values = {f"{key}/{found['split']}": value for key, value in found["after"].items()}
        values |= {f"{key} lost/{found['split']}": value for key, value in found["lost"].items()}
        values["bytes/weights"] = found["bytes"]["after"] / found["bytes"]["before"]
        return {"parameters": model.count_params(), "values": values}

    for name in args.rows.split(","):
        for precision in ("float32", "int8") if args.quick else PRECISIONS:
            for seed in args.seeds:

                def work(folder: Path, name=name, precision=precision, seed=seed) -> dict:
                    return measure(name, precision, seed, folder)

                results.run(f"{name}_{precision}", seed, work)
    results.save()


if __name__ == "__main__":
    main()
