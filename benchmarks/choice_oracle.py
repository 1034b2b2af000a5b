"""Records what lm-eval 0.4.13 gives to our items, which `test_lm_eval.py` compares with. `make choice-oracle` runs it.

It runs in an environment of its own, since lm-eval brings scikit-learn, and transformers loads that where it is there.

    python benchmarks/choice_oracle.py            writes tests/choice/data/lm_eval.json
    python benchmarks/choice_oracle.py --real A.txt.bz2 B.tsv C.jsonl [--limit 100] [--model NAME] [--dtype float32]

With `--real`, files of HellaSwag, OpenBookQA and WinoGrande are compared at once, item by item, and nothing is written.
Without `--model` that is done with the tiny model in float64. `--rendered` takes files of requests that OLMES has
rendered, and compares with plain transformers, one choice a row.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval import evaluator
from lm_eval.api.metrics import pooled_sample_stderr
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from tests.support.choice import DATA, ROWS, tiny_model, tiny_tokenizer

_TASKS = Path(lm_eval.__file__).parent / "tasks"
_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "sciq": "sciq/sciq.yaml",
    "boolq": "super_glue/boolq/default.yaml",
}
_METRICS = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "brier_score")


@dataclass(frozen=True)
class Case:
    """One way to run a task.

    Attributes:
        task: the task.
        tokenizer: the kind of tiny tokenizer.
        shots: how many examples.
        chat: whether the chat template is used.
    """

    task: str
    tokenizer: str = "words"
    shots: int = 0
    chat: bool = False

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.task}, {self.tokenizer}, {self.shots} shots, {'chat' if self.chat else 'plain'}"


CASES = (
    *(Case(task) for task in sorted(ROWS)),
    *(Case(task, shots=2) for task in ("arc_easy", "hellaswag", "mmlu", "winogrande")),
    *(Case(task, chat=True) for task in ("boolq", "hellaswag", "mmlu")),
    *(Case(task, shots=2, chat=True) for task in ("arc_easy", "mmlu", "winogrande")),
    *(Case(task, "joined") for task in ("arc_easy", "hellaswag", "openbookqa", "winogrande")),
)


def main() -> None:
    """Record, or compare."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", nargs="*", default=[])
    parser.add_argument("--rendered", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--chat", action="store_true")
    options = parser.parse_args()
    if options.real:
        compare_real(options.real, options.limit, options.model, options.dtype, options.chat)
    if options.rendered:
        compare_rendered(options.rendered, options.limit, options.model, options.dtype)
    if options.real or options.rendered:
        return
    recorded = {"lm_eval": lm_eval.__version__, "cases": []}
    for case in CASES:
        lm = HFLM(pretrained=tiny_model(case.tokenizer), tokenizer=tiny_tokenizer(case.tokenizer), batch_size=4)
        recorded["cases"].append({**vars(case), **run_case(lm, case, ROWS[case.task])})
        print(case.name, flush=True)
    write(recorded)


def write(recorded: Mapping[str, Any]) -> None:
    """One line for each item, so that differences can be read."""
    cases = []
    for case in recorded["cases"]:
        head = json.dumps({key: value for key, value in case.items() if key != "items"})
        items = ",\n  ".join(json.dumps(item) for item in case["items"])
        cases.append(f'{head[:-1]}, "items": [\n  {items}\n ]}}')
    text = ",\n ".join(cases)
    (DATA / "lm_eval.json").write_text(f'{{"lm_eval": "{recorded["lm_eval"]}", "cases": [\n {text}\n]}}\n')


def run_case(lm: HFLM, case: Case, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The log-probabilities of each item, and the measures of the whole."""
    if not case.task.startswith("mmlu"):
        return of_task(lm, case, rows, load_yaml(_TASKS / _FILES[case.task]))
    folder = "default" if case.task == "mmlu" else "continuation"
    parts, items = [], []
    for subject in dict.fromkeys(row["subject"] for row in rows["items"]):
        own = {key: [row for row in given if row["subject"] == subject] for key, given in rows.items()}
        part = of_task(lm, case, own, load_yaml(_TASKS / "mmlu" / folder / f"mmlu_{subject}.yaml"))
        parts.append(part)
        items.extend(part["items"])
    sizes = [len(part["items"]) for part in parts]
    errors = [part["measures"]["acc"][1] for part in parts]
    mean = sum(part["measures"]["acc"][0] * size for part, size in zip(parts, sizes, strict=True)) / sum(sizes)
    return {"measures": {"acc": [mean, float(pooled_sample_stderr(errors, sizes))]}, "items": items}


def of_task(
    lm: HFLM, case: Case, rows: Mapping[str, Sequence[Mapping[str, Any]]], config: dict[str, Any]
) -> dict[str, Any]:
    """As `run_case`, for one task of lm-eval."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for key, given in rows.items():
            files[key] = str(Path(folder, f"{key}.jsonl"))
            Path(files[key]).write_text("".join(json.dumps(row) + "\n" for row in given))
        splits = dict.fromkeys(("test", "validation"), files["items"])
        splits |= {name: files["shots"] for name in ("train", "dev") if "shots" in files}
        changed = {key: value for key, value in config.items() if key not in ("dataset_name", "tag", "task_alias")}
        changed["dataset_path"], changed["dataset_kwargs"] = "json", {"data_files": splits}
        changed["fewshot_config"] = {"sampler": "first_n"}
        changed["num_fewshot"] = case.shots
        changed["metric_list"] = [{"metric": name} for name in metrics_of(case.task)]
        if "shots" not in files:
            changed.pop("training_split", None)
        task = ConfigurableTask(config=changed)
        found = evaluator.evaluate(
            lm, {changed["task"]: task}, bootstrap_iters=10, apply_chat_template=case.chat, log_samples=True
        )
    samples = sorted(found["samples"][changed["task"]], key=lambda sample: sample["doc_id"])
    measures = found["results"][changed["task"]]
    return {
        "measures": {
            name: [measures[f"{name},none"], measures.get(f"{name}_stderr,none")] for name in metrics_of(case.task)
        },
        "items": [recorded_item(sample, case.task) for sample in samples],
    }


def metrics_of(task: str) -> tuple[str, ...]:
    """lm-eval's measures that it can compute for a task."""
    if task == "winogrande":
        return ("acc",)
    return tuple(name for name in _METRICS if name != "brier_score" or task not in ("arc_easy", "arc_challenge"))


def recorded_item(sample: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The log-probabilities of the choices, and which measures count the item as right."""
    logprobs = [float(one[0]) for one in sample["filtered_resps"]]
    half = len(logprobs) // 2 if "acc_mutual_info" in metrics_of(task) else len(logprobs)
    right = {name: sample[name] for name in metrics_of(task) if name != "brier_score"}
    return {"logprobs": logprobs[:half], "alone": logprobs[half:], "right": right}


def models_of(name: str | None, dtype: str) -> tuple[Any, Any, Any]:
    """The tokenizer, the model on our attention, and the same model on stock layers."""
    from transformers import AutoModelForCausalLM

    from palmette.model.loading import load_model
    from palmette.model.tokenizer import weights_folder

    if name is None:
        return tiny_tokenizer("words"), tiny_model("words", "palmette_sdpa"), tiny_model("words")
    loaded = load_model(name, dtype=dtype)
    stock = AutoModelForCausalLM.from_pretrained(weights_folder(name), dtype=dtype, attn_implementation="sdpa").eval()
    return loaded.tokenizer, loaded.model, stock


def our_scores(model: Any, encoded: Sequence[Any]) -> list[Any]:
    """Our scores of encoded items, 32 at a time."""
    from palmette.choice.scoring import score_items

    starts = range(0, len(encoded), 32)
    return [one for at in starts for one in score_items(model, encoded[at : at + 32], tokens_per_batch=4096)]


def compare_real(paths: Iterable[str], limit: int, model: str | None, dtype: str, chat: bool) -> None:
    """Compare with our numbers on files of real items."""
    from palmette.choice.encoding import ItemEncoder
    from palmette.choice.job import prepare, read_items
    from palmette.choice.reading import read_rows
    from palmette.choice.settings import ChoiceSettings
    from palmette.choice.task import load_task

    tokenizer, ours, stock = models_of(model, dtype)
    lm = HFLM(pretrained=stock, tokenizer=tokenizer, batch_size=8)
    for name, path in zip(("hellaswag", "openbookqa", "winogrande"), paths, strict=True):
        task = load_task(name)
        rows = [dict(row) for row in read_rows(task, path, limit=limit).rows]
        theirs = run_case(lm, Case(name, chat=chat), {"items": rows})
        settings = ChoiceSettings(data=path, limit=limit, mutual_info=name != "winogrande", chat_template=chat)
        items = prepare(read_items(task, settings), tokenizer).items
        encoded = ItemEncoder(tokenizer, "lm-eval", mutual=settings.mutual_info).encode(items)
        scores = our_scores(ours, encoded)
        merged = sum(one.merged for one in encoded)
        print(f"{name}: {len(items)} items, {merged} with a joined token")
        print_comparison(items, scores, theirs)


def print_comparison(items: Sequence[Any], scores: Sequence[Any], theirs: Mapping[str, Any]) -> None:
    """The largest difference of a log-probability, and each measure on both sides."""
    from palmette.choice.measures import Outcome, figures

    pairs = list(zip(scores, theirs["items"], strict=True))
    most = max(
        abs(a - b)
        for mine, other in pairs
        for a, b in zip((*mine.logprobs, *mine.alone), (*other["logprobs"], *other["alone"]), strict=True)
    )
    print(f"  largest difference {most:.1e} nats")
    outcomes = [
        Outcome(item.id, item.subject, item.gold, item.choices, score.logprobs, score.alone)
        for item, score in zip(items, scores, strict=True)
    ]
    for key, (value, stderr) in theirs["measures"].items():
        own = figures(outcomes)[key.replace("brier_score", "brier")]
        other = [one["right"].get(key) for one in theirs["items"]]
        unequal = sum(
            right is not None and outcome.right(key) != bool(right)
            for outcome, right in zip(outcomes, other, strict=True)
        )
        given = stderr if isinstance(stderr, float) else 0.0
        print(
            f"  {key}: lm-eval {value:.4f} +- {given:.4f}, palmette {own.value:.4f} +- {own.stderr or 0.0:.4f}, "
            f"items decided otherwise: {unequal}",
            flush=True,
        )


@torch.inference_mode()
def compare_rendered(paths: Iterable[str], limit: int, model: str | None, dtype: str) -> None:
    """Compare with plain transformers on rendered requests: one choice a row, the whole text encoded at once."""
    from palmette.choice.encoding import ItemEncoder
    from palmette.choice.job import prepare, read_items
    from palmette.choice.settings import ChoiceSettings
    from palmette.choice.task import load_task

    tokenizer, ours, stock = models_of(model, dtype)
    for path in paths:
        items = prepare(read_items(load_task("choices"), ChoiceSettings(data=path, limit=limit)), tokenizer).items
        scores = our_scores(ours, ItemEncoder(tokenizer, "lm-eval").encode(items))
        most, same = 0.0, 0
        for item, score in zip(items, scores, strict=True):
            plain = []
            for context, continuation in zip(item.contexts, item.continuations, strict=True):
                start, tokens = len(tokenizer(context)["input_ids"]), tokenizer(context + continuation)["input_ids"]
                logits_TV = stock(torch.tensor([tokens[:-1]])).logits[0, start - 1 :].double()
                plain.append(float(logits_TV.log_softmax(-1).gather(1, torch.tensor(tokens[start:])[:, None]).sum()))
            order = [sorted(range(len(plain)), key=lambda k: numbers[k]) for numbers in (plain, score.logprobs)]
            same += order[0] == order[1]
            most = max(most, *(abs(a - b) for a, b in zip(plain, score.logprobs, strict=True)))
        print(f"{Path(path).name}: {same} of {len(items)} items in the same order, largest difference {most:.1e} nats")


if __name__ == "__main__":
    main()
