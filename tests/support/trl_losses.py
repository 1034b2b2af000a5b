"""TRL's own loss code on given numbers: its trainers' methods, called on a stub in place of a trainer, with a model
that only hands out log-probabilities. None of its formulas stands here. Branches come flat, as in palmette, and are
padded for TRL.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"),
    num_processes=1,
    process_index=0,
    sync_gradients=True,
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    reduce=lambda x, reduction: x,
)


def stub(**attributes: Any) -> SimpleNamespace:
    """What TRL's loss methods read of a trainer."""
    shared = {
        "model": SimpleNamespace(training=True),
        "accelerator": ACCELERATOR,
        "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**shared, **attributes})


def padded(flat_P: torch.Tensor, branch_P: torch.Tensor, num_branches: int) -> torch.Tensor:
    """Branches as rows [N, T], zeros on the right."""
    return pad_sequence([flat_P[branch_P == branch] for branch in range(num_branches)], batch_first=True)


def _rows(logprob_P: torch.Tensor, branch_P: torch.Tensor, num_branches: int) -> tuple[dict[str, torch.Tensor], Any]:
    """Inputs of one prompt token each and then the branch, and a model that gives the branch's log-probabilities."""
    logprob_NT = padded(logprob_P, branch_P, num_branches)
    mask_NT = padded(torch.ones_like(branch_P), branch_P, num_branches)
    prompt_N1 = torch.zeros(num_branches, 1, dtype=torch.long)
    inputs = {
        "input_ids": torch.ones(num_branches, logprob_NT.shape[1] + 1, dtype=torch.long),
        "attention_mask": torch.cat([prompt_N1 + 1, mask_NT], dim=1),
        "completion_mask": torch.cat([prompt_N1, mask_NT], dim=1),
    }
    shown = torch.zeros_like(logprob_NT)
    output = SimpleNamespace(log_probs=logprob_NT, entropy=shown, mean_logits=shown, is_top1=shown.bool())
    return inputs, lambda **_: output


def trl_reward_loss(
    chosen_M: torch.Tensor, rejected_M: torch.Tensor, margin_M: torch.Tensor | None, centring: float | None
) -> tuple[torch.Tensor, float]:
    """Loss, and accuracy as TRL logs it."""
    trainer = stub(args=SimpleNamespace(center_rewards_coefficient=centring))
    output = SimpleNamespace(logits=torch.cat([chosen_M, rejected_M])[:, None])
    inputs = {"attention_mask": torch.ones(2 * len(chosen_M), 1)}
    if margin_M is not None:
        inputs["margin"] = margin_M
    loss = RewardTrainer.compute_loss(trainer, lambda **_: output, inputs)
    return loss, trainer._metrics["train"]["accuracy"][0]


def trl_dpo_loss(
    logprob_P: torch.Tensor, branch_P: torch.Tensor, reference_N: torch.Tensor, loss_type: str, **settings: float
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Loss and logged metrics; the first half of the branches was chosen over the second half, one by one."""
    inputs, model = _rows(logprob_P, branch_P, len(reference_N))
    chosen, rejected = reference_N.chunk(2)
    trainer = stub(
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        use_weighting=False,
        **{"label_smoothing": 0.0, **settings},
    )
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False), trainer._metrics["train"]


def trl_kto_loss(
    logprob_P: torch.Tensor,
    branch_P: torch.Tensor,
    reference_N: torch.Tensor,
    desirable_N: torch.Tensor,
    mismatched_N: torch.Tensor,
    mismatched_reference_N: torch.Tensor,
    **settings: float,
) -> tuple[torch.Tensor, float]:
    """Loss, and the KL baseline as TRL logs it."""
    inputs, model = _rows(logprob_P, branch_P, len(reference_N))
    trainer = stub(
        calculate_KL=True,
        loss_type="kto",
        precompute_ref_logps=True,
        _compute_kl_logps=lambda model, batch: mismatched_N,
        **settings,
    )
    inputs |= {"label": desirable_N, "ref_logps": reference_N, "ref_KL_logps": mismatched_reference_N}
    loss = KTOTrainer._compute_loss(trainer, model, inputs, return_outputs=False)
    return loss, trainer._metrics["train"]["kl"][0]


def _policy_inputs(branch_P: torch.Tensor, advantage_N: torch.Tensor) -> dict[str, torch.Tensor]:
    num_branches = len(advantage_N)
    mask_NT = padded(torch.ones_like(branch_P), branch_P, num_branches)
    prompt = torch.ones(num_branches, 1, dtype=torch.long)
    ids = {"prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": mask_NT, "completion_mask": mask_NT}
    return {**ids, "advantages": advantage_N, "num_items_in_batch": mask_NT.sum()}


def trl_grpo_loss(
    policy_P: torch.Tensor,
    old_P: torch.Tensor,
    reference_P: torch.Tensor,
    advantage_N: torch.Tensor,
    branch_P: torch.Tensor,
    loss_type: str,
    weight_P: torch.Tensor | None = None,
    **settings: float,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Loss and logged metrics; weights of 0 and 1 go to TRL as its mask of tool calls."""
    num_branches = len(advantage_N)
    policy_NT = padded(policy_P, branch_P, num_branches)
    trainer = stub(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        loss_type=loss_type,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        _get_per_token_logps_and_entropies=lambda *_, **__: (policy_NT, torch.zeros_like(policy_NT), None),
        **settings,
    )
    inputs = _policy_inputs(branch_P, advantage_N)
    inputs["old_per_token_logps"] = padded(old_P, branch_P, num_branches)
    inputs["ref_per_token_logps"] = padded(reference_P, branch_P, num_branches)
    if weight_P is not None:
        inputs["tool_mask"] = padded(weight_P, branch_P, num_branches)
        inputs["num_items_in_batch"] = weight_P.sum()
    return GRPOTrainer._compute_loss(trainer, None, inputs), trainer._metrics["train"]


def trl_rloo_loss(
    policy_P: torch.Tensor, old_P: torch.Tensor, advantage_N: torch.Tensor, branch_P: torch.Tensor, **settings: float
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Loss and logged metrics."""
    num_branches = len(advantage_N)
    policy_NT = padded(policy_P, branch_P, num_branches)
    scores = (policy_NT, torch.zeros_like(policy_NT), None)
    trainer = stub(_get_per_token_logps_and_entropies=lambda *_, **__: scores, **settings)
    inputs = _policy_inputs(branch_P, advantage_N)
    inputs["old_logps"] = padded(old_P, branch_P, num_branches).sum(dim=1)
    return RLOOTrainer._compute_loss(trainer, None, inputs), trainer._metrics["train"]


def trl_advantages(
    trainer_class: type,
    reward_N: torch.Tensor,
    num_generations: int,
    policy_NT: torch.Tensor | None = None,
    reference_NT: torch.Tensor | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Advantages of completions that come in groups of `num_generations`, all completions of one length."""
    policy_NT = reward_N[:, None] if policy_NT is None else policy_NT
    reference = object()
    prompts = [[1]] * len(reward_N)
    completions = [[1] * policy_NT.shape[1]] * len(reward_N)
    generated = (prompts, completions, None, completions, None, {}, None, None)
    trainer = stub(
        environment_factories=None,
        environments=None,
        tools=None,
        num_generations=num_generations,
        reward_weights=torch.ones(1, dtype=reward_N.dtype),
        reward_func_names=["given"],
        reward_funcs=[None],
        mask_truncated_completions=False,
        multi_objective_aggregation="sum_then_normalize",
        num_iterations=1,
        pad_to_multiple_of=None,
        use_vllm=False,
        ref_model=reference,
        reward_clip_range=None,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        _logs=defaultdict(list, rewards=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
        args=SimpleNamespace(
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            per_device_train_batch_size=len(reward_N),
            gradient_checkpointing_kwargs=None,
        ),
        _generate=lambda _: generated if trainer_class is GRPOTrainer else (prompts, completions, completions),
        _calculate_rewards=lambda *_: reward_N[:, None],
        _get_per_token_logps_and_entropies=lambda model, *_, **__: (
            reference_NT if model is reference else policy_NT,
            None,
            None,
        ),
        **settings,
    )
    trainer.model.is_gradient_checkpointing = False
    inputs = [{"prompt": "?"} for _ in reward_N]
    advantages: torch.Tensor = trainer_class._generate_and_score_completions(trainer, inputs)["advantages"]
    return advantages
