"""What watches an agent learn: logs, checkpoints, evaluations and reasons to stop."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents.base import Agent, Callback, Round, Scored
from agents.episodes import Env
from agents.evaluation import Evaluated, evaluate
from seal_env.files import atomic_write


class LogEdits(Callback):
    """One JSON line for every scored edit; lines of rounds that an agent will play again are dropped first.

    Args:
        path: the file; it is appended to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, agent: Agent) -> None:
        drop_lines(self.path, lambda line: line["round"] < agent.rounds)

    def on_round(self, agent: Agent, result: Round) -> bool:
        rows = [(one, False) for one in result.scored] + [(one, True) for one in result.rescored]
        first = agent.edits - len(rows)
        lines = [
            {"round": agent.rounds - 1, "edit": first + i, "rescored": again} | edit_line(one)
            for i, (one, again) in enumerate(rows)
        ]
        append_lines(self.path, lines)
        return True


class LogRounds(Callback):
    """One JSON line for every round: edits so far, metrics, and seconds of each phase.

    Args:
        path: the file; it is appended to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, agent: Agent) -> None:
        drop_lines(self.path, lambda line: line["edits"] <= agent.edits)

    def on_round(self, agent: Agent, result: Round) -> bool:
        append_lines(self.path, [{"edits": agent.edits, **finite(result.metrics), "seconds": result.seconds}])
        return True


class TensorBoard(Callback):
    """Every metric as a TensorBoard curve over scored edits.

    Args:
        folder: of the event files.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard logs need tensorboard: pip install tensorboard") from error
        self._open = lambda step: SummaryWriter(str(folder), purge_step=step)

    def on_start(self, agent: Agent) -> None:
        self.writer = self._open(agent.edits + 1)  # what a killed run wrote beyond its checkpoint is not shown

    def on_round(self, agent: Agent, result: Round) -> bool:
        for name, value in result.metrics.items():
            self.writer.add_scalar(name, value, agent.edits)
        for name, value in result.seconds.items():
            self.writer.add_scalar(f"seconds/{name}", value, agent.edits)
        return True

    def on_end(self, agent: Agent) -> None:
        self.writer.close()


class WandB(Callback):
    """Every metric in Weights & Biases, over scored edits; a run that is gone on with is the same run there.

    Who is logged in, and whether anything is sent, is its own affair: ``wandb login``, ``WANDB_MODE=offline``.

    Args:
        project: there.
        folder: where it keeps its files, and the id of the run.
        name: of the run.
        group: that the run belongs to.
        config: settings to show beside it.

    Raises:
        ImportError: wandb is not installed.
        ValueError: it could not begin (nobody is logged in, say).
    """

    def __init__(
        self,
        project: str,
        folder: str | os.PathLike[str],
        name: str | None = None,
        group: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError("W&B logs need wandb: pip install 'seal-env[wandb]'") from error
        self.folder = Path(folder)
        self._init = partial(wandb.init, project=project, dir=str(folder), name=name, group=group, config=dict(config or {}))
        self._error = wandb.Error

    def on_start(self, agent: Agent) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.folder / "id"
        if not known.is_file():
            with atomic_write(known) as part:
                part.write_text(uuid.uuid4().hex[:12])
        try:
            self.run = self._init(id=known.read_text(), resume="allow", reinit="create_new")
        except self._error as error:
            raise ValueError(f"W&B: {' '.join(str(error).split())}") from error
        self.run.define_metric("edits")
        self.run.define_metric("*", step_metric="edits")

    def on_round(self, agent: Agent, result: Round) -> bool:
        seconds = {f"seconds/{name}": value for name, value in result.seconds.items()}
        self.run.log({"edits": agent.edits, **result.metrics, **seconds})
        return True

    def on_end(self, agent: Agent) -> None:
        self.run.finish()


class Checkpoint(Callback):
    """Save the agent after rounds, in ``folder/round-00012``; :func:`latest` finds the newest.

    Args:
        folder: of the checkpoints.
        every: rounds between them.
        keep: how many are left; older ones are deleted.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 1, keep: int = 1) -> None:
        if every < 1 or keep < 1:
            raise ValueError(f"every and keep must be at least 1, got every={every}, keep={keep}")
        self.folder, self.every, self.keep = Path(folder), every, keep

    def on_round(self, agent: Agent, result: Round) -> bool:
        if agent.rounds % self.every == 0:
            agent.save(self.folder / f"round-{agent.rounds:05d}")
            for old in _checkpoints(self.folder)[: -self.keep]:
                shutil.rmtree(old)
        return True


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The newest checkpoint in ``folder``, or None."""
    found = _checkpoints(Path(folder))
    return found[-1] if found else None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-*"))


class Evaluate(Callback):
    """Evaluate the agent on held-out tasks before learning and whenever so many edits have been scored.

    Args:
        env: of held-out tasks.
        tasks: their indices.
        every: scored edits between evaluations; the end is always evaluated.
        path: a file for one JSON line per task and evaluation, or None.
        seed: of the evaluations: the same for each, so that they differ by the policy alone.
        start: evaluate before learning as well.

    Attributes:
        history: (edits, mean reward) of each evaluation.
    """

    def __init__(
        self,
        env: Env,
        tasks: Sequence[int],
        every: int,
        path: str | os.PathLike[str] | None = None,
        seed: int = 0,
        start: bool = True,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 scored edit, got {every}")
        self.start = start
        self.env, self.tasks, self.every, self.seed = env, list(tasks), every, seed
        self.path = None if path is None else Path(path)
        self.history: list[tuple[int, float]] = []

    def on_start(self, agent: Agent) -> None:
        if self.path:
            count = Counter(line["edits"] for line in drop_lines(self.path, lambda line: line["edits"] <= agent.edits))
            kept = drop_lines(self.path, lambda line: count[line["edits"]] == len(self.tasks))  # a torn evaluation goes
            means: dict[int, list[float]] = {}
            for line in kept:
                means.setdefault(line["edits"], []).append(line["reward"])
            self.history = [(edits, float(np.mean(rewards))) for edits, rewards in sorted(means.items())]
        if self.start and not self.history:
            self._evaluate(agent)

    def on_round(self, agent: Agent, result: Round) -> bool:
        if agent.edits // self.every > self._last // self.every:
            self._evaluate(agent)
        return True

    def on_end(self, agent: Agent) -> None:
        if not self.history or self._last != agent.edits:
            self._evaluate(agent)

    @property
    def _last(self) -> int:
        """Edits that had been scored at the last evaluation."""
        return self.history[-1][0] if self.history else 0

    def _evaluate(self, agent: Agent) -> None:
        found = evaluate(agent, self.env, self.tasks, seed=self.seed)
        self.history.append((agent.edits, float(np.mean([one.reward for one in found]))))
        if self.path:
            append_lines(self.path, [{"edits": agent.edits} | edit_line(one) for one in found])


class StopEarly(Callback):
    """Stop when a metric has not risen for so many rounds, or has reached a target.

    Args:
        patience: rounds without a new best.
        target: a value that is enough.
        metric: which one.
    """

    def __init__(self, patience: int = 10, target: float = math.inf, metric: str = "reward") -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1 round, got {patience}")
        self.patience, self.target, self.metric = patience, target, metric
        self._best, self._waited = -math.inf, 0

    def on_round(self, agent: Agent, result: Round) -> bool:
        if self.metric not in result.metrics:
            raise ValueError(f"no metric {self.metric!r}; there are {', '.join(sorted(result.metrics))}")
        value = result.metrics[self.metric]
        self._waited = 0 if value > self._best else self._waited + 1
        self._best = max(self._best, value)
        return value < self.target and self._waited < self.patience


def edit_line(one: Scored | Evaluated) -> dict[str, Any]:
    """What a JSON line says of a scored edit."""
    edit = one.completion.text if isinstance(one, Scored) else one.edit
    info = {name: one.info[name] for name in (*_LOGGED, *one.info.get("components", ())) if name in one.info}
    questions = [dict(question) for question in one.info.get("questions", ())]
    return {"task": one.task, "reward": one.reward, "text": edit, **finite(info), "questions": questions}


_LOGGED = (
    "title",
    "task_id",
    "label_free",
    "approximate",
    "status",
    "problem",
    "fit_status",
    "score_before",
    "score",
    "gain",
    "scores",
    "seeds",
    "sequences",
    "steps",
    "tokens",
)


def finite(values: Any) -> Any:
    """``values`` as JSON holds them: arrays as lists, numpy scalars as numbers, what is not finite as null."""
    if isinstance(values, dict):
        return {name: finite(value) for name, value in values.items()}
    if isinstance(values, (list, tuple, np.ndarray)):
        return [finite(value) for value in values]
    if isinstance(values, np.generic):
        values = values.item()
    return None if isinstance(values, float) and not math.isfinite(values) else values


def append_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Append JSON lines (in ASCII, whatever an edit holds); a crash loses at most the line being written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
            file.flush()


def drop_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Leave only the lines that ``keep(line)`` wants, atomically; a torn last line goes as well. Returns what is left."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            break
        if keep(line):
            lines.append(line)
    with atomic_write(path) as part:
        append_lines(part, lines)
    return lines
