"""Policies on disk: merged adapters as one PEFT adapter, and opening a saved policy from its folder alone.

policy = open_policy("runs/squad/runs/grpo/seed-0/policy")
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors import safe_open
from torch import Tensor

from seal_env.student import Sampling, Student
from seal_env.student.checkpoint import load_adapter, save_adapter
from seal_env.student.layout import adapter_layout, as_trained
from seal_env.student.loading import adapter_base

if TYPE_CHECKING:
    from agents.policy import Policy

WRITING = "writing.json"  # generation settings of a saved policy: sampling, max_new_tokens, template, enable_thinking


def open_policy(folder: str | os.PathLike[str], model: str | None = None, **options: Any) -> Policy:
    """Open a policy that ``Policy.save``, ``Agent.save`` or PEFT wrote, with the generation settings that were saved.

    Args:
        folder: the saved policy, or a saved agent that contains one.
        model: base model; by default the one that the folder names.
        options: options of :meth:`agents.Policy.from_pretrained`, which override the saved ones.

    Raises:
        ValueError: the folder holds no policy, or the policy does not fit the base.
    """
    from agents.policy import Policy  # which saves through this module

    path = Path(folder)
    if (path / "policy").is_dir():
        path = path / "policy"
    if (path / WRITING).is_file():
        writing = json.loads((path / WRITING).read_text(encoding="utf-8"))
        writing["sampling"] = Sampling(writing.pop("temperature"), writing.pop("top_p"))
        options = writing | options
    if (path / "model").is_dir():  # all weights
        return Policy.from_pretrained(str(path / "model"), **options)
    if not (path / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds no policy: neither adapter_config.json, nor model, nor policy")
    lora = PeftConfig.from_pretrained(str(path))
    if not isinstance(lora, LoraConfig):
        raise ValueError(f"{folder} holds a {lora.peft_type} adapter; only LoRA can be loaded")
    name = model or base_of(path)
    if name is None:
        raise ValueError(f"{folder} names no base model: pass model=")
    saved = path / "policy.safetensors"
    try:
        if saved.is_file():  # repeat the merges one by one, which is exact
            with safe_open(saved, "pt") as file:
                parts = len(file.keys())
            policy = Policy.from_pretrained(name, split_config(lora, parts), **options)
            policy.load(path)
        else:
            policy = Policy.from_pretrained(name, as_trained(lora), **options)
            with torch.no_grad():
                policy.adapter.copy_(load_adapter(policy._student.layout, path))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    return policy


def base_of(folder: str | os.PathLike[str]) -> str | None:
    """Base model named by a saved adapter, or None."""
    return adapter_base(Path(folder)) or adapter_base(Path(folder) / "policy")


def agent_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Contents of ``agent.json`` beside a policy that an agent saved, else an empty dict."""
    path = Path(folder) / "agent.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def save_joined(student: Student, adapters: Sequence[Tensor], folder: Path) -> None:
    """Save the sum of adapters as one PEFT adapter of the sum of their ranks: ``[B1 B2] [A1; A2] = B1 A1 + B2 A2``."""
    lora, count = copy.deepcopy(student.layout.lora), len(adapters)
    lora.r *= count
    lora.lora_alpha *= count**0.5 if lora.use_rslora else count
    lora.rank_pattern = {name: count * r for name, r in lora.rank_pattern.items()}
    lora.alpha_pattern = {name: alpha * count for name, alpha in lora.alpha_pattern.items()}
    layout = adapter_layout(student.model, lora)
    joined = torch.zeros(1, layout.numel)
    for target in layout.targets:
        part = student.layout.by_name[target.name]
        target.a(joined)[0].copy_(torch.cat([part.a(adapter[None])[0] for adapter in adapters]))
        target.b(joined)[0].copy_(
            torch.cat([part.b(adapter[None])[0] for adapter in adapters], 1) * part.scaling / target.scaling
        )
    save_adapter(layout, joined[0], folder, student.model.config._name_or_path)


def split_config(lora: LoraConfig, count: int) -> LoraConfig:
    """LoRA configuration of each of ``count`` adapters that :func:`save_joined` saved as one."""
    divisor = count**0.5 if lora.use_rslora else count
    lora.r //= count
    lora.lora_alpha = _plain_number(lora.lora_alpha / divisor)
    lora.rank_pattern = {name: r // count for name, r in lora.rank_pattern.items()}
    lora.alpha_pattern = {name: _plain_number(alpha / count) for name, alpha in lora.alpha_pattern.items()}
    return lora


def _plain_number(number: float) -> Any:
    return int(number) if float(number).is_integer() else number
