"""A run directory: the files that a benchmark writes besides those of its runs.

``benchmark.json`` holds the settings, ``about.json`` command, versions and git revision of each session, and ``tasks.jsonl``
the tasks of the evaluation. Each run has a folder ``runs/LABEL/seed-N`` (:mod:`benchmarks.runner`).
"""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

import seal_env
from agents.callbacks import append_lines
from benchmarks.reports.renamed_keys import load_settings
from benchmarks.settings import SEQUENCE, Settings, from_mapping
from seal_env.files import atomic_folder, write_json

_PACKAGES = ("seal-env", "torch", "transformers", "peft", "gymnasium", "stable-baselines3", "numpy", "datasets")


def run_folder(folder: Path, label: str, seed: int) -> Path:
    """The folder of one run."""
    return folder / "runs" / label / f"seed-{seed}"


def create(folder: Path, settings: Settings) -> None:
    """Create a run directory, atomically.

    Raises:
        ValueError: the folder exists and is not empty, or cannot be written.
    """
    if (folder / "benchmark.json").is_file():
        raise ValueError(f"{folder} holds a benchmark already: --resume {folder} continues it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no run directory: choose another --out")
    try:
        with atomic_folder(folder) as new:
            write_settings(new, settings)
            append_lines(new / "tasks.jsonl", _evaluation_tasks(settings))
    except OSError as error:
        raise ValueError(f"cannot write a run directory at {folder}: {error.strerror or error}") from error


def _evaluation_tasks(settings: Settings) -> list[dict[str, Any]]:
    engine = settings.make_env(training=False, num_envs=1).unwrapped.engine
    evaluation, count = settings.evaluation, engine.task_count
    if count < evaluation.tasks:
        raise ValueError(f"evaluation.tasks is {evaluation.tasks}, but there are only {count} tasks")
    if count < SEQUENCE * evaluation.sequences:
        raise ValueError(
            f"evaluation.sequences is {evaluation.sequences}, of {SEQUENCE} passages each, but there are only {count} tasks"
        )
    return [
        {
            "task": i,
            "title": task.title,
            "context": task.context,
            "questions": [{"question": question.question, "answers": list(question.answers)} for question in task.questions],
        }
        for i, task in enumerate(engine.source[i] for i in range(evaluation.tasks))
    ]


def write_settings(folder: Path, settings: Settings) -> None:
    write_json(folder / "benchmark.json", settings.to_json())


def read_settings(folder: Path) -> Settings:
    """The settings of a run directory.

    Raises:
        ValueError: ``folder`` is not a run directory, or its settings cannot be used.
    """
    path = folder / "benchmark.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run directory (it has no benchmark.json)")
    try:
        return from_mapping(load_settings(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def add_session(folder: Path) -> None:
    """Add this command to ``about.json``: a resumed benchmark has several sessions."""
    path = folder / "about.json"
    sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.is_file() else []
    session = {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in _PACKAGES if any(distributions(name=name))},
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    write_json(path, {"sessions": [*sessions, session]})


def _git() -> dict[str, Any] | None:
    """Revision of the checkout that this runs from, and whether it has changes; None if it is not a checkout."""
    root = Path(seal_env.__file__).parents[1]
    outputs = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain"]):
        try:
            process = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if process.returncode:
            return None
        outputs.append(process.stdout.strip())
    return {"revision": outputs[0], "changed": bool(outputs[1])}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that one process at a time writes there.

    Raises:
        ValueError: another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another process is writing to {folder}; wait for it or stop it") from error
        yield
