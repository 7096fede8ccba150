"""Several adapters over one base as a single PEFT adapter of the sum of their ranks, and how its parts were configured."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from seal_env.student import Student
from seal_env.student.checkpoint import save_adapter
from seal_env.student.layout import adapter_layout


def save_joined(student: Student, adapters: Sequence[Tensor], folder: Path) -> None:
    """Write the sum of adapters as one PEFT adapter, of the sum of their ranks: ``[B1 B2] [A1; A2] = B1 A1 + B2 A2``."""
    lora, count = copy.deepcopy(student.layout.lora), len(adapters)
    lora.r *= count
    lora.lora_alpha *= count**0.5 if lora.use_rslora else count
    lora.rank_pattern = {name: count * r for name, r in lora.rank_pattern.items()}
    lora.alpha_pattern = {name: alpha * count for name, alpha in lora.alpha_pattern.items()}
    layout = adapter_layout(student.model, lora)
    joined = torch.zeros(1, layout.numel)
    for target in layout.targets:
        own = student.layout.by_name[target.name]
        target.a(joined)[0].copy_(torch.cat([own.a(adapter[None])[0] for adapter in adapters]))
        target.b(joined)[0].copy_(
            torch.cat([own.b(adapter[None])[0] for adapter in adapters], 1) * own.scaling / target.scaling
        )
    save_adapter(layout, joined[0], folder, student.model.config._name_or_path)


def own_part(lora: LoraConfig, count: int) -> LoraConfig:
    """The configuration of one of ``count`` adapters that :func:`save_joined` wrote as one."""
    divisor = count**0.5 if lora.use_rslora else count
    lora.r //= count
    lora.lora_alpha = _whole(lora.lora_alpha / divisor)
    lora.rank_pattern = {name: r // count for name, r in lora.rank_pattern.items()}
    lora.alpha_pattern = {name: _whole(alpha / count) for name, alpha in lora.alpha_pattern.items()}
    return lora


def _whole(number: float) -> Any:
    return int(number) if float(number).is_integer() else number
