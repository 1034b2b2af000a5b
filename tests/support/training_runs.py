"""Folders of training runs, written by hand, and their pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from palmette.data.records import Answer, Document, Question
from palmette.pages.training.report import render_training_report
from palmette.pages.training.run import TrainingRun, read_training_run
from palmette.pages.training.warnings import find_warnings
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.questions import PromptGroup
from palmette.train.policies import ppo
from tests.support.paths import ROOT

LOGGED = {"loss": 1.0, "grad_norm": 0.5, "learning_rate": 1e-4, "seconds": 2.0, "resident_mib": 900}


MARKUP = "</script><img src=x onerror=alert(1)>\u2028<b>bold</b> & \u202eolleh"


def log_lines(num: int, **series: Any) -> list[dict[str, Any]]:
    """`num` steps of half an epoch's length in all; a series is a list, a function of the step from 1, or a
    constant.
    """
    lines = []
    for step in range(1, num + 1):
        line: dict[str, Any] = {"step": step, "epoch": step / num / 2, **LOGGED, "seconds": 2.0 * step}
        for name, values in series.items():
            line[name] = values[step - 1] if isinstance(values, list) else values(step) if callable(values) else values
        lines.append({name: value for name, value in line.items() if value != "absent"})
    return lines


def sample_line(step: int, question: str, completion: str, reward: float, **more: Any) -> dict[str, Any]:
    asked = {"question": question, "asked": f"What about {question}?", "gold": ["dawn", "Dawn", "dawn"]}
    return {
        "step": step,
        **asked,
        "completion": completion,
        "finish": "end",
        "rewards": {"exact": reward},
        "reward": reward,
        **more,
    }


def write_run(
    folder: Path, stage: str, lines: list[dict[str, Any]], samples: list[dict[str, Any]] | None = None, **recipe: Any
) -> Path:
    folder.mkdir(parents=True)
    manifest = {
        "created": "2026-11-22T06:33:06+00:00",
        "model": {"name": "tiny <model>"},
        "start": {"run": "runs/before"},
        "data": [{"source": "builtin:train", "questions": 700}],
        "dropped": ["a record"],
        "tokens": 1000,
        **({"stage": stage} if stage != "sft" else {}),
    }
    values = {"output": "run", "train": {"epochs": 1, "max_grad_norm": 1.0}, **recipe}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if samples is not None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in samples)
        (folder / "samples.jsonl").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, stage: str, lines: list[dict[str, Any]], *more: Any, **recipe: Any) -> TrainingRun:
    return read_training_run(write_run(folder / "run", stage, lines, *more, **recipe))


def page_of(run: TrainingRun) -> str:
    return render_training_report(run, find_warnings(run))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


TRAIN = ROOT / "src" / "palmette" / "train"


# Where each stage counts what it counts, besides what all stages log.
COUNTED_IN = {
    "reward": ["preferences/reward.py"],
    "dpo": ["preferences/dpo.py"],
    "kto": ["preferences/kto.py"],
    "grpo": ["policies/grpo.py", "policies/kl_limit.py"],
    "ppo": ["policies/ppo.py", "policies/kl_limit.py"],
    "pretrain": ["texts/watch.py"],
    "mlm": ["texts/mlm.py"],
}


def counted(stage: str) -> set[str]:
    """What a stage's sources say that it counts beside the loss."""
    found: set[str] = set()
    for name in COUNTED_IN.get(stage, []):
        found |= set(re.findall(r"tally\.(?:add|note)\(\"(\w+)\"", (TRAIN / name).read_text(encoding="utf-8")))
    if stage in ("grpo", "ppo"):
        asked = PromptGroup("d", Document("d", "", ()), (Question("q", "", (Answer("a", 0),)),), 0, (1,), (2,), ((3,),))
        parts = {"exact": 1.0, "f1": 1.0, "valid_json": 1.0, "abstention": 1.0, "model": 0.3}
        found |= RolloutBatch(0, (asked,), (RewardedCompletion((4,), "a", "end", parts, 1.0),), 1).summary().keys()
    if stage == "ppo":
        found |= {"score", ppo.COEFFICIENT, ppo.COMPLETION_KL, ppo.EXPLAINED}
    return found
