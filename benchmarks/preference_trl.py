"""TRL's trainers of `benchmarks/preferences.py`: `DPOTrainer`, `RewardTrainer`, and the update of `GRPOTrainer`, each
given tokens.

preference_peers.py says what was chosen where TRL leaves a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from counts import Row
from preference_data import Group, advantages, old_logprobs
from preference_lessons import DPO, GRPO, PreferenceJob, adapted, tokens_of
from transformers import Trainer, set_seed

from palmette.model.heads import ScalarHead, head_of
from palmette.model.loading import fast_dtype, without_alias_warning
from palmette.model.tokenizer import load_tokenizer
from palmette.tree.prefix_tree import PrefixTree

Example = dict[str, Any]
# A trainer, and what makes a micro-batch of examples.
Built = tuple[Any, Callable[..., Any]]


def examples_of(job: PreferenceJob, groups: Sequence[Group], step: Sequence[PrefixTree]) -> list[Example]:
    """The examples of an optimizer step in TRL's form, the longest first.

    Beside what TRL reads, "rows" are what an example makes the model read, and "length" is the longest of them.
    """
    found: list[Example] = []
    advantage, old = advantages(groups), old_logprobs(groups)
    for tree in step:
        prompt = list(tokens_of(tree.root))
        completions = {child.name: list(tokens_of(child)) for child in tree.root.children}
        rows = {name: as_row(prompt, completion, job.learned) for name, completion in completions.items()}
        if job.kind == "grpo":
            for name, completion in completions.items():
                given = {"advantage": advantage[tree.name, name], "old": old[tree.name, name]}
                found.append({"prompt_ids": prompt, "completion_ids": completion, **given, "rows": [rows[name]]})
        elif job.kind == "dpo":
            sides = {"chosen_ids": completions["0"], "rejected_ids": completions["1"]}
            found.append({"prompt_ids": prompt, **sides, "rows": list(rows.values())})
        else:
            sides = {"chosen_ids": prompt + completions["0"], "rejected_ids": prompt + completions["1"]}
            found.append({**sides, "rows": list(rows.values())})
    for one in found:
        one["length"] = max(len(tokens) for tokens, _ in one["rows"])
        if job.kind == "grpo":
            one["step_tokens"] = sum(len(other["completion_ids"]) for other in found)
    return sorted(found, key=lambda one: (-one["length"], one["rows"]))


def as_row(prompt: list[int], completion: list[int], learned: bool) -> Row:
    """A prompt with its completion as a plain row."""
    return tuple(prompt + completion), (-100,) * len(prompt) + (
        tuple(completion) if learned else (-100,) * len(completion)
    )


def build_trainer(job: PreferenceJob, options: dict[str, Any], examples: Sequence[Example]) -> Built:
    """The trainer of a job's kind over examples, and what makes a micro-batch of some of them."""
    from datasets import Dataset

    data = [{key: value for key, value in one.items() if key not in ("length", "rows")} for one in examples]
    if job.kind == "grpo":  # whose trainer asks for prompts, though it is never let near them
        data = [{"prompt": "", **one} for one in data]
    rows = [row for one in examples for row in one["rows"]]
    build = {"dpo": dpo_trainer, "reward": reward_trainer, "grpo": grpo_trainer}[job.kind]
    return build(job, options, Dataset.from_list(data), rows)


def dpo_trainer(job: PreferenceJob, options: dict[str, Any], data: Any, _: Sequence[Row]) -> Built:
    """`DPOTrainer`."""
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):  # type: ignore[misc]
        """Takes tokens instead of text."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    loaded = adapted(job)
    model = loaded.model
    model.get_base_model().set_attn_implementation("sdpa")
    config = DPOConfig(**options, beta=DPO.beta, max_length=None, precompute_ref_log_probs=True)
    trainer = Tokenised(model, None, config, train_dataset=data, processing_class=loaded.tokenizer)
    model.delete_adapter("ref")  # a copy of the fresh adapter, for the reference, which is known by now
    return trainer, trainer.data_collator


def reward_trainer(job: PreferenceJob, options: dict[str, Any], data: Any, rows: Sequence[Row]) -> Built:
    """`RewardTrainer`."""
    from trl import RewardConfig, RewardTrainer

    model, tokenizer = classifier(job)
    config = RewardConfig(**options, max_length=None, pad_token=unused_token(tokenizer, rows))
    trainer = RewardTrainer(model, config, train_dataset=data, processing_class=tokenizer)
    return trainer, trainer.data_collator


def classifier(job: PreferenceJob) -> tuple[Any, Any]:
    """A classifier of one label with the adapter, and the head, that Palmette's model begins with; and the
    tokenizer.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    recipe, tokenizer = job.recipe(), load_tokenizer(job.model)
    base = AutoModelForSequenceClassification.from_pretrained(
        tokenizer.name_or_path, num_labels=1, dtype=fast_dtype(), attn_implementation="sdpa", use_safetensors=True
    )
    # Palmette's head is in float32, too: at 8 bits rewards are coarse, and so are the steps by which the head is
    # trained.
    base.score.float().register_forward_pre_hook(_widened)
    with torch.no_grad():
        base.score.weight.copy_(ScalarHead(base.config.hidden_size, recipe.train.seed).weight[None])
    if torch.cuda.is_available():
        base = base.to("cuda")
    lora = recipe.lora
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=["score"],
    )
    set_seed(recipe.train.seed)
    with without_alias_warning():
        return get_peft_model(base, config, autocast_adapter_dtype=False), tokenizer


def _widened(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """What a head reads, in float32."""
    return (inputs[0].float(),)


def as_palmette(job: PreferenceJob, trained: Any) -> Any:
    """A trained model of TRL's as one of Palmette's: a classifier's adapter and head are put into a fresh model.

    Raises:
        RuntimeError: the adapters do not match.
    """
    if job.kind != "reward":
        return trained
    model = adapted(job).model
    theirs = {name: value for name, value in trained.named_parameters() if ".lora_" in name}
    ours = {name for name, _ in model.named_parameters() if ".lora_" in name}
    if not ours or ours != theirs.keys():
        raise RuntimeError(f"the adapters differ: {sorted(ours ^ theirs.keys())[:4]}")
    model.load_state_dict(theirs, strict=False)
    head, score = head_of(model, "reward"), trained.get_base_model().score.modules_to_save["default"].weight
    assert head is not None
    head.load_state_dict({"weight": score[0], "bias": torch.zeros(())})
    return model


def unused_token(tokenizer: Any, rows: Sequence[Row]) -> str:
    """A token that stands in none of the rows, a control token if there is one.

    Raises:
        SystemExit: every token stands in some row.
    """
    used = {token for tokens, _ in rows for token in tokens}
    free = sorted(set(tokenizer.all_special_ids) - used) or sorted(set(tokenizer.get_vocab().values()) - used)
    if not free:
        raise SystemExit("every token of the vocabulary stands in some row, so none can fill rows up: give less --data")
    return str(tokenizer.convert_ids_to_tokens(free[0]))


def grpo_trainer(job: PreferenceJob, options: dict[str, Any], data: Any, _: Sequence[Row]) -> Built:
    """`GRPOTrainer`, whose rollouts are given."""
    from trl import GRPOConfig, GRPOTrainer

    class Given(GRPOTrainer):  # type: ignore[misc]
        """Takes micro-batches as they come."""

        def _prepare_inputs(self, batch: Any) -> Any:
            return Trainer._prepare_inputs(self, batch)

    def rewarded(**_: Any) -> list[float]:
        raise RuntimeError("rewards are given: there is nothing to reward")

    loaded = adapted(job)
    loaded.model.get_base_model().set_attn_implementation("sdpa")
    clip = {"epsilon": GRPO.clip_low, "epsilon_high": GRPO.clip_high}
    config = GRPOConfig(**options, **clip, beta=GRPO.kl_coefficient, loss_type="dapo", num_generations=job.completions)
    trainer = Given(loaded.model, rewarded, config, train_dataset=data, processing_class=loaded.tokenizer)
    return trainer, lambda examples: collate_rollouts(examples, int(loaded.tokenizer.pad_token_id))


def collate_rollouts(examples: Sequence[Example], pad_token: int) -> dict[str, torch.Tensor]:
    """A micro-batch as `GRPOTrainer._generate_and_score_completions` hands it out: prompts filled up on the left,
    completions on the right.
    """
    from trl.trainer.utils import pad

    def filled(name: str, side: str, value: float) -> torch.Tensor:
        return pad([torch.tensor(one[name]) for one in examples], padding_value=value, padding_side=side)

    def mask(name: str, side: str) -> torch.Tensor:
        return pad([torch.ones(len(one[name]), dtype=torch.long) for one in examples], padding_side=side)

    return {
        "prompt_ids": filled("prompt_ids", "left", pad_token),
        "prompt_mask": mask("prompt_ids", "left"),
        "completion_ids": filled("completion_ids", "right", pad_token),
        "completion_mask": mask("completion_ids", "right"),
        "old_per_token_logps": filled("old", "right", 0.0),
        "advantages": torch.tensor([one["advantage"] for one in examples]),
        "num_items_in_batch": torch.tensor(examples[0]["step_tokens"]),
    }
