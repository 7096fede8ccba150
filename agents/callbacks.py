"""Callbacks of :meth:`agents.Agent.learn`: logs, checkpoints, evaluations and early stopping."""

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

from agents.base import Agent, Callback, Round, ScoredEdit
from agents.episodes import Env
from agents.evaluation import evaluate
from seal_env.files import atomic_write


class _JSONLines(Callback):
    """Appends JSON lines to a file. On resuming, lines of rounds after the checkpoint are dropped first.

    Args:
        path: file of JSON lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)


class LogEdits(_JSONLines):
    """Append a JSON line for every scored edit."""

    def on_start(self, agent: Agent) -> None:
        drop_lines(self.path, lambda line: line["round"] < agent.rounds)

    def on_round(self, agent: Agent, result: Round) -> bool:
        edits = [*result.rollout, *result.rescored]
        first = agent.edits - len(edits)
        lines = [
            {"round": agent.rounds - 1, "edit": first + i, "rescored": i >= len(result.rollout)} | edit_line(edit)
            for i, edit in enumerate(edits)
        ]
        append_lines(self.path, lines)
        return True


class LogRounds(_JSONLines):
    """Append a JSON line for every round: edits so far, metrics, and seconds of each phase."""

    def on_start(self, agent: Agent) -> None:
        drop_lines(self.path, lambda line: line["edits"] <= agent.edits)

    def on_round(self, agent: Agent, result: Round) -> bool:
        append_lines(self.path, [{"edits": agent.edits, **finite(result.metrics), "seconds": result.seconds}])
        return True


class TensorBoard(Callback):
    """Log every metric to TensorBoard, over scored edits.

    Args:
        folder: folder of the event files.

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
        self.writer = self._open(agent.edits + 1)  # hides what a killed run logged after its checkpoint

    def on_round(self, agent: Agent, result: Round) -> bool:
        for name, value in result.metrics.items():
            self.writer.add_scalar(name, value, agent.edits)
        for name, value in result.seconds.items():
            self.writer.add_scalar(f"seconds/{name}", value, agent.edits)
        return True

    def on_end(self, agent: Agent) -> None:
        self.writer.close()


class WandB(Callback):
    """Log every metric to Weights & Biases, over scored edits. A resumed run continues the same W&B run.

    Authentication and offline mode are configured as usual: ``wandb login``, ``WANDB_MODE=offline``.

    Args:
        project: W&B project.
        folder: local folder of the run's files and its id.
        name: name of the run.
        group: group of the run.
        config: settings to show with the run.

    Raises:
        ImportError: wandb is not installed.
        ValueError: the run could not be started, for example without a login.
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
        run_id = self.folder / "id"
        if not run_id.is_file():
            with atomic_write(run_id) as partial_file:
                partial_file.write_text(uuid.uuid4().hex[:12])
        try:
            self.run = self._init(id=run_id.read_text(), resume="allow", reinit="create_new")
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
    """Save the agent in ``folder/round-00012`` after rounds; :func:`latest` returns the newest checkpoint.

    Args:
        folder: folder of the checkpoints.
        every: rounds between checkpoints.
        keep: number of checkpoints to keep; older ones are deleted.
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
    return next(reversed(_checkpoints(Path(folder))), None)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-*"))


class Evaluate(Callback):
    """Evaluate the agent on held-out tasks before learning, every so many scored edits, and at the end.

    Args:
        env: vector environment of held-out tasks.
        tasks: task indices.
        every: scored edits between evaluations.
        path: file for one JSON line per task and evaluation, or None.
        seed: seed of every evaluation, so that evaluations differ by the policy alone.
        start: whether to evaluate before learning.

    Attributes:
        history: (number of scored edits, mean reward) of each evaluation.
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
            kept = drop_lines(self.path, lambda line: count[line["edits"]] == len(self.tasks))  # drops an incomplete evaluation
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
        """Number of scored edits at the last evaluation."""
        return self.history[-1][0] if self.history else 0

    def _evaluate(self, agent: Agent) -> None:
        results = evaluate(agent, self.env, self.tasks, seed=self.seed)
        self.history.append((agent.edits, float(np.mean([edit.reward for edit in results]))))
        if self.path:
            append_lines(self.path, [{"edits": agent.edits} | edit_line(edit) for edit in results])


class StopEarly(Callback):
    """Stop when a metric has not improved for ``patience`` rounds, or has reached a target.

    Args:
        patience: rounds without a new maximum.
        target: value at which learning stops.
        metric: name of the metric, see :func:`agents.base.rollout_metrics`.
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


def edit_line(edit: ScoredEdit) -> dict[str, Any]:
    """The JSON line of a scored edit."""
    info = {name: edit.info[name] for name in (*_LOGGED.split(), *edit.info.get("components", ())) if name in edit.info}
    questions = [dict(question) for question in edit.info.get("questions", ())]
    return {"task": edit.task, "reward": edit.reward, "text": edit.edit, **finite(info), "questions": questions}


_LOGGED = (
    "title task_id label_free approximate status problem fit_status score_before score gain scores seeds sequences steps tokens"
)


def finite(values: Any) -> Any:
    """``values`` as JSON values: arrays become lists, numpy scalars numbers, and non-finite numbers null."""
    if isinstance(values, dict):
        return {name: finite(value) for name, value in values.items()}
    if isinstance(values, (list, tuple, np.ndarray)):
        return [finite(value) for value in values]
    if isinstance(values, np.generic):
        values = values.item()
    return None if isinstance(values, float) and not math.isfinite(values) else values


def append_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Append JSON lines in ASCII; a crash loses at most the line being written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
            file.flush()


def drop_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Keep the lines for which ``keep(line)`` is true, atomically; an incomplete last line is dropped. Returns the lines."""
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
    with atomic_write(path) as partial_file:
        append_lines(partial_file, lines)
    return lines
