"""Policies on disk, opened without knowing how they were made.

policy = open_policy("runs/squad/runs/grpo/seed-0/policy")
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors import safe_open

from agents.joined import own_part
from agents.policy import WRITING, Policy
from seal_env.student import Sampling
from seal_env.student.checkpoint import load_adapter
from seal_env.student.layout import as_trained
from seal_env.student.loading import adapter_base


def open_policy(folder: str | os.PathLike[str], model: str | None = None, **options: Any) -> Policy:
    """The policy in a folder that ``Policy.save``, ``Agent.save`` or PEFT wrote; it writes as it did when it was saved.

    Args:
        folder: where it is.
        model: its base; None: the one that the folder names.
        options: as :meth:`agents.Policy.from_pretrained` takes them, in place of what the folder says.

    Raises:
        ValueError: there is no policy, or it does not fit the base.
    """
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
        raise ValueError(f"{folder} names no base: say which model it is for")
    saved = path / "policy.safetensors"
    try:
        if saved.is_file():  # exactly as it was: what was merged is merged again, not joined
            with safe_open(saved, "pt") as file:
                parts = len(file.keys())
            policy = Policy.from_pretrained(name, own_part(lora, parts), **options)
            policy.load(path)
        else:
            policy = Policy.from_pretrained(name, as_trained(lora), **options)
            with torch.no_grad():
                policy.adapter.copy_(load_adapter(policy._student.layout, path))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    return policy


def base_of(folder: str | os.PathLike[str]) -> str | None:
    """The base that a saved policy with an adapter names; None where the folder says nothing of one."""
    return adapter_base(Path(folder)) or adapter_base(Path(folder) / "policy")


def agent_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What is said of the agent that saved a policy; nothing where it was saved by itself."""
    path = Path(folder) / "agent.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
