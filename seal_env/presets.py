"""Settings of single models and of the paper's experiments; all other models use SEAL's defaults."""

from __future__ import annotations

from seal_env.edits import EditSettings, ToolEdit, ToolSettings
from seal_env.update import UpdateConfig

# `seal-nano`: chosen by `python -m benchmarks.measure_nano --search` (see its model card).
NANO_LORA: dict[str, object] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
NANO_SETTINGS = EditSettings(update_config=UpdateConfig(learning_rate=1e-2, epochs=6, batch_size=2))
NANO_ANSWER_TOKENS = 24  # more than any answer of the Almanac has

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
