"""Models that come with the package, by name, and how each is best updated; any other model is updated as in SEAL."""

from __future__ import annotations

from pathlib import Path

from seal_env.edits import EditSettings

_FOLDER = Path(__file__).parent

# SEAL's adapter, on PEFT's default targets; the defaults of EditSettings are SEAL's other settings.
SEAL_LORA: dict[str, object] = {"r": 32, "lora_alpha": 64}
# How `seal-nano` is updated: chosen by `python -m benchmarks.measure_nano --search` (see its model card).
NANO_LORA: dict[str, object] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
NANO_SETTINGS = EditSettings(learning_rate=1e-2, epochs=6, batch_size=2)
NANO_ANSWER_TOKENS = 24  # longer than any answer of the Almanac


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def bundled_folder(name: str) -> Path | None:
    """The folder of the bundled model ``name``; None where there is no such model."""
    return _FOLDER / name if name in bundled_models() else None
