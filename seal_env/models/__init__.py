"""Where a named model is found. :mod:`seal_env.presets` has the settings that bundled models are updated with."""

from __future__ import annotations

from pathlib import Path

from seal_env.models.gguf import PACKAGED, packaged_folder

_FOLDER = Path(__file__).parent


def bundled_models() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def bundled_folder(name: str) -> Path | None:
    """The folder of the bundled model ``name``, or None if there is no such model."""
    return _FOLDER / name if name in bundled_models() else None


def model_folder(name: str) -> Path | None:
    """The folder of the named model ``name``; None where it is no such name, but a path or a hub id.

    Raises:
        ValueError: the model comes in a package that is not installed; the message says what to install.
    """
    return packaged_folder(name) if name in PACKAGED else bundled_folder(name)


def model_name(recorded: str) -> str | None:
    """The named model of ``recorded``, which is its name or the folder that it had, perhaps elsewhere; None for all others."""
    path = Path(recorded)
    if path.name in PACKAGED:
        parents = ("", PACKAGED[path.name].cache_name)
    elif bundled_folder(path.name):
        parents = ("", _FOLDER.name)
    else:
        return None
    return path.name if path.parent.name in parents else None
