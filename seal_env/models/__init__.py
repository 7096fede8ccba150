"""The models that come with the package, and where a named one is found. :mod:`seal_env.presets` says how each is updated."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def bundled_folder(name: str) -> Path | None:
    """The folder of the bundled model ``name``; None where there is no such model."""
    return _FOLDER / name if name in bundled_models() else None
