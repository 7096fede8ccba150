"""Files and folders that are written atomically."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to. On exit the file replaces ``path``; on an error it is removed and ``path`` stays as it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    """Write ``tree`` as JSON, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(tree, indent=1) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to write to. On exit it replaces ``path``; on an error ``path`` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if path.exists():
            path.replace(Path(temporary) / "old")
        new.replace(path)


def cache_folder() -> Path:
    """The user's cache of this package: ``$XDG_CACHE_HOME/seal-env``, or ``~/.cache/seal-env``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-env"
