"""Files and folders that appear whole or not at all."""

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
    """A name to write to within; what was written there then takes the place of ``path``, unless an error came between."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    """Write ``tree`` as JSON, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(tree, indent=1) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write to within; it then takes the place of ``path``, unless an error came between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        if path.exists():
            path.replace(Path(temporary) / "old")
        new.replace(path)
