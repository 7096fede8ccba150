"""Run the agents and seeds of a run directory, one after the other or in several processes.

The folder of a run holds ``environment.json`` (all settings with their defaults), one JSON line per scored edit
(``edits.jsonl``), training round (``rounds.jsonl``), evaluated task (``evaluation.jsonl``) and step of a continual sequence
(``continual.jsonl``), TensorBoard events, the newest checkpoint, the final policy, and ``done.json`` once it is complete. Apart
from seconds, the lines depend neither on interruptions nor on ``num_envs``.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch

from agents import Agent, Callback, Round, evaluate_sequences
from agents.callbacks import Checkpoint, Evaluate, LogEdits, LogRounds, TensorBoard, WandB, append_lines, edit_line, latest
from benchmarks.progress import Event, View, make_view
from benchmarks.run_directory import locked, run_folder
from benchmarks.settings import SEQUENCE, Settings
from seal_env.distributed import exit_with_parent, init_worker, shared_pool
from seal_env.files import atomic_folder, atomic_write, write_json

RunKey = tuple[str, int]  # label and seed of a run


@dataclass(frozen=True)
class Runner:
    """Runs what is not complete yet in a run directory.

    Attributes:
        folder: the run directory.
        settings: of the benchmark.
        wandb: project of Weights & Biases to log to as well.
        executor: keywords of the environments that say where edits are scored (``executor``, ``workers``); they change no
            result.
    """

    folder: Path
    settings: Settings
    wandb: str | None = None
    executor: Mapping[str, Any] = field(default_factory=dict)

    def run_all(self, workers: int = 1) -> None:
        """Complete every run, ``workers`` at once, each in a process of its own if there are several."""
        settings = self.settings
        jobs = [(label, seed) for seed in settings.seeds for label in settings.agents]
        waiting = [job for job in jobs if not self._is_complete(job)]
        learned = sum(settings.agents[label].learns for label, _ in set(jobs) - set(waiting)) * settings.budget
        view = make_view(total=settings.training_edits, done=learned, runs=len(jobs), complete=len(jobs) - len(waiting))
        with view:
            if workers > 1 and waiting:
                self._run_in_processes(waiting, workers, view)
                return
            device = settings.env_config(training=True).device
            pool = shared_pool(self.executor["executor"], self.executor["workers"], device) if self.executor else None
            for job in waiting:
                self.run_one(*job, view)
            del pool  # until here, workers live from run to run

    def _is_complete(self, job: RunKey) -> bool:
        names = ["done.json", *(["continual.jsonl"] if self.settings.evaluation.sequences else [])]
        return all((run_folder(self.folder, *job) / name).is_file() for name in names)

    def _run_in_processes(self, jobs: Sequence[RunKey], workers: int, view: View) -> None:
        context = multiprocessing.get_context("spawn")
        threads = max(1, torch.get_num_threads() // workers)
        manager = SyncManager(ctx=context)
        manager.start(exit_with_parent)
        with manager:
            events = manager.Queue()
            with ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(threads,)) as pool:
                futures = [pool.submit(self._run_in_worker, job, events) for job in jobs]
                try:
                    while not all(future.done() for future in futures):
                        time.sleep(0.2)
                        failed = [future for future in futures if future.done() and future.exception()]
                        _show(events, view)
                        if failed:
                            break
                    for future in as_completed([future for future in futures if future.done()]):
                        future.result()
                    _show(events, view)
                except BaseException:
                    processes = list(pool._processes.values())  # shutdown forgets them
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in processes:
                        process.terminate()
                    raise

    def _run_in_worker(self, job: RunKey, events: Any) -> None:
        self.run_one(*job, events.put)

    def run_one(self, label: str, seed: int, report: Callable[[Event], None]) -> None:
        """Complete one run, from its newest checkpoint if it has one.

        Args:
            report: is called with every event of the run.

        Raises:
            ValueError: the budget is too small for one round of the agent, or another process writes to the run's folder.
        """
        settings, own, about = self.settings, run_folder(self.folder, label, seed), self.settings.agents[label]
        own.mkdir(parents=True, exist_ok=True)
        report(Event(label, seed, "started"))
        env = settings.make_env(training=about.learns, **self.executor)
        test = settings.make_env(training=False, **self.executor)
        policy = settings.make_policy()
        with locked(own):
            if checkpoint := latest(own / "checkpoints"):
                agent = about.type.load(checkpoint, env, policy)
            else:
                agent = about.type(env, policy, seed=seed, self_adapting=about.self_adapting, **about.config)
            # All settings, with their defaults and the templates that "auto" resolved to.
            resolved = {"env": env.unwrapped.config.to_dict(), "evaluation": test.unwrapped.config.to_dict()}
            _check_dtypes(own / "environment.json", resolved)
            write_json(own / "environment.json", {**resolved, "policy": agent.policy.writing, "agent": asdict(agent.config)})
            tasks, every, start = range(settings.evaluation.tasks), settings.evaluation.every, settings.evaluation.start
            evaluate = Evaluate(test, tasks, every, own / "evaluation.jsonl", seed, start)
            callbacks: list[Callback] = [evaluate]
            if about.learns:
                callbacks = [*self._loggers(label, seed), evaluate, Checkpoint(own / "checkpoints")]
                callbacks.append(_Report(label, seed, report, agent.edits))
            try:
                agent.learn(settings.budget, callbacks)
            except ValueError:
                if agent.edits == 0:  # the budget is too small for one round
                    shutil.rmtree(own)
                raise
            if about.learns and agent.uses_policy:
                with atomic_folder(own / "policy") as new:
                    policy.save(new)
                    agent.save_metadata(new)
            if settings.evaluation.sequences and not (own / "continual.jsonl").is_file():
                with atomic_write(own / "continual.jsonl") as partial:
                    append_lines(partial, self._continual_lines(agent, seed))
            write_json(own / "done.json", {"edits": agent.edits, "rounds": agent.rounds})
        report(Event(label, seed, "complete", reward=evaluate.history[-1][1]))

    def _loggers(self, label: str, seed: int) -> list[Callback]:
        own = run_folder(self.folder, label, seed)
        loggers = [LogEdits(own / "edits.jsonl"), LogRounds(own / "rounds.jsonl"), TensorBoard(own / "tensorboard")]
        if self.wandb:
            config = {"seed": seed, **asdict(self.settings.agents[label])}
            loggers.append(WandB(self.wandb, own / "wandb", f"{label} {seed}", self.folder.name, config))
        return loggers

    def _continual_lines(self, agent: Agent, seed: int) -> list[dict[str, Any]]:
        """One line per step of each continual sequence."""
        settings, count = self.settings, self.settings.evaluation.sequences
        keywords = {"mode": "continual", "updates_per_episode": SEQUENCE, **self.executor}
        env = settings.make_env(training=False, num_envs=min(count, settings.num_envs), **keywords)
        tasks = [range(first, first + SEQUENCE) for first in range(0, SEQUENCE * count, SEQUENCE)]
        sequences = evaluate_sequences(agent, env, tasks, seed=seed)
        return [
            {"sequence": i, "step": t} | edit_line(step) | {"accuracy_row": list(step.info["accuracy_row"])}
            for i, steps in enumerate(sequences)
            for t, step in enumerate(steps)
        ]


def _check_dtypes(path: Path, resolved: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a ValueError if a run was begun with another data type, which ``auto`` may be on another processor."""
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, config in resolved.items():
        before, now = recorded.get(name, {}).get("dtype", config["dtype"]), config["dtype"]
        if before != now:
            raise ValueError(
                f"{path.parent} was begun with dtype={before!r}, and this processor computes with {now!r}: resume it where it"
                f" was begun, or start a new run with -P env_options.dtype={now}"
            )


def _begin_worker(threads: int) -> None:
    exit_with_parent()
    init_worker(threads)


def _show(events: Any, view: View) -> None:
    """Show the events that worker processes have queued."""
    while not events.empty():
        view(events.get())


class _Report(Callback):
    """Reports every round of a run as an event."""

    def __init__(self, label: str, seed: int, report: Callable[[Event], None], resumed_at: int) -> None:
        self.label, self.seed, self.report, self.resumed_at = label, seed, report, resumed_at

    def on_start(self, agent: Agent) -> None:
        if self.resumed_at:
            self.report(Event(self.label, self.seed, "resumed", self.resumed_at))

    def on_round(self, agent: Agent, result: Round) -> bool:
        edits = len(result.rollout) + len(result.rescored)
        self.report(Event(self.label, self.seed, f"{agent.edits} edits", edits, result.metrics["reward"]))
        return True
