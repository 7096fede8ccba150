"""Settings of single models and of the paper's experiments; all other models use SEAL's defaults."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seal_env.edits import EditSettings, ToolEdit, ToolSettings
from seal_env.update import SEAL_LORA, UpdateConfig

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class ModelPreset:
    """Defaults of environments on passages for one model.

    Attributes:
        lora: options of ``peft.LoraConfig``.
        settings: how edits are split and learnt.
        answer_tokens: most tokens of an answer.
        short_answers: the model answers in a word or a name, so that the default grader is ``exact``.
    """

    lora: Mapping[str, object]
    settings: EditSettings = field(default_factory=EditSettings)
    answer_tokens: int = 64
    short_answers: bool = False


# Chosen by `python -m benchmarks.measure_nano --search` (see the model card of `seal-nano`).
NANO_LORA: dict[str, object] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
_NANO = ModelPreset(
    NANO_LORA,
    EditSettings(update_config=UpdateConfig(learning_rate=1e-2, epochs=6, batch_size=2)),
    answer_tokens=24,  # more than any answer of the Almanac has
    short_answers=True,
)
# Chosen on validation passages of SQuAD by `seal-bench tune` (docs/smollm2.md).
_SMOLLM2_135M = ModelPreset(
    {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
    EditSettings(update_config=UpdateConfig(learning_rate=1e-3, epochs=10)),
    answer_tokens=64,
)
_PRESETS = {"seal-nano": _NANO, "seal-nano-arc": _NANO, "smollm2-135m": _SMOLLM2_135M}


def default_dtype(model: str, device: str) -> str:
    """``bfloat16`` for SmolLM2-135M on a CPU with bfloat16 units, which double its speed; otherwise ``float32``."""
    return "bfloat16" if model == "smollm2-135m" and device == "cpu" and has_bfloat16_units() else "float32"


@functools.cache
def has_bfloat16_units() -> bool:
    """Whether the processor multiplies bfloat16 numbers (AVX-512 BF16), as the compiled kernels do."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return False
    return any("avx512_bf16" in line.split() for line in lines if line.startswith("flags"))


def model_preset(model: str) -> ModelPreset:
    """The defaults of ``model``: its own, or SEAL's (paper, section 4.1)."""
    return _PRESETS.get(model, ModelPreset(SEAL_LORA))


# Few-shot tasks (paper, section 4.2): SEAL's adapter, and the edit that its authors tuned by hand.
SEAL_ARC_LORA: dict[str, object] = {
    "r": 128,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj", "up_proj"],
}
SEAL_ARC_ORACLE = ToolEdit(True, True, True, True, "train_using_output_tokens", 1e-4, 2)
# `seal-nano-arc`: chosen on training tasks by `python -m benchmarks.measure_arc --search`.
NANO_ARC = "seal-nano-arc"
NANO_ARC_LORA = NANO_LORA
# max_tokens leaves out most enlarged copies, which were half of the cost and did not help (docs/arc.md).
NANO_ARC_SETTINGS = ToolSettings().with_options(max_examples=20, max_steps=80, max_tokens=100, warmup_steps=4)
NANO_ARC_ORACLE = ToolEdit(True, False, False, False, "train_using_output_tokens", 3e-3, 6)
NANO_ARC_EVALUATOR = {"orders": 1, "max_new_tokens": 48}  # more tokens than a grid of 6 by 6 has
