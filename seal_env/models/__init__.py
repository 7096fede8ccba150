"""The bundled models. :mod:`seal_env.presets` has the settings that they are updated with."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled_models() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def bundled_folder(name: str) -> Path | None:
    """The folder of the bundled model ``name``, or None if there is no such model."""
    return _FOLDER / name if name in bundled_models() else None
