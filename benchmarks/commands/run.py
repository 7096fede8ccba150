"""``seal-bench run``: agents x seeds on equal budgets, evaluated on held-out tasks, in a folder that can be gone on with.

A run directory holds ``benchmark.json`` (the settings), ``about.json`` (command, versions, revision), ``tasks.jsonl`` (what
is evaluated on) and, in ``runs/LABEL/seed-N``, ``environment.json`` (all settings, the agent's too, with defaults, and the
templates that ``auto`` came to), a line for every scored edit, every round and every evaluated task, TensorBoard events, the
newest checkpoint, the final policy, and ``done.json`` when it is complete. Everything in the lines but seconds is the same
whether or not a run was interrupted, and whatever ``num_envs`` is.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import multiprocessing
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.managers import SyncManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import torch

import seal_env
from agents import Agent, Callback, Round, evaluate_sequences
from agents.callbacks import Checkpoint, Evaluate, LogEdits, LogRounds, TensorBoard, WandB, append_lines, edit_line, latest
from benchmarks.commands.live import Event, View, make_view
from benchmarks.commands.report import write
from benchmarks.reports.report_tables import table_text
from benchmarks.reports.run_records import differences, read
from benchmarks.reports.summary import summarise
from benchmarks.settings import LEARNERS, SEQUENCE, Settings, from_mapping, read_config
from seal_env.distributed import EXECUTORS, WorkersLost, begin, end_with_parent, shared_pool
from seal_env.files import atomic_folder, atomic_write, write_json
from seal_env.registration import ENVIRONMENTS

EXAMPLES = """examples:
  seal-bench run --env SEAL-SQuAD-v0 --agents rest_em,grpo --seeds 3 --budget 480 --out runs/first
  seal-bench run --config squad --workers 2 --out runs/squad
  seal-bench run --config squad -P agents.grpo.config.beta=0.04 -P evaluation.tasks=50 --out runs/kl
  seal-bench run --resume runs/squad
  seal-bench run --config squad --executor ray --out runs/squad
"""
HERE: Mapping[str, Any] = MappingProxyType({})  # no keyword of the environment says that edits are scored elsewhere
_PACKAGES = ("seal-env", "torch", "transformers", "peft", "gymnasium", "stable-baselines3", "numpy", "datasets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", help="id of a SEAL environment; package.module:Id-v0 imports the module that registers it")
    parser.add_argument("--agents", help=f"learners, by name or import path, with commas; default {','.join(LEARNERS)}")
    parser.add_argument("--no-baselines", action="store_true", help="leave out the lines to compare with")
    parser.add_argument("--seeds", type=int, help="how many seeds")
    parser.add_argument("--budget", type=int, help="scored self-edits of every run")
    parser.add_argument("--config", help="a benchmark's YAML file, or the name of one that comes with the package")
    parser.add_argument(
        "-P", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="a setting; dots go down"
    )
    parser.add_argument("--out", help="the run directory; default runs/ENV-TIME")
    parser.add_argument("--resume", metavar="DIR", help="go on with a run directory")
    parser.add_argument("--workers", type=int, default=1, help="runs at once, each in a process of its own")
    parser.add_argument(
        "--executor", choices=EXECUTORS, help="score edits on processes of this machine, or on Ray (docs/scale.md)"
    )
    parser.add_argument("--executor-workers", type=int, metavar="N", help="how many; default one for each GPU or CPU")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the settings, and run nothing")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases as well (WANDB_MODE=offline: on disk)")
    parser.add_argument("--no-report", action="store_true", help="print no table at the end and write no report")


def run(arguments: argparse.Namespace) -> Path | None:
    """Run, or go on; returns the run directory.

    Raises:
        ValueError: a setting, or a run directory that is not one or has other settings.
    """
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}")
    if arguments.executor and arguments.workers > 1:
        raise ValueError("--workers is for several runs at once, --executor for several edits of one run: choose one")
    if arguments.executor_workers is not None and not arguments.executor:
        raise ValueError(f"--executor-workers needs --executor ({' or '.join(EXECUTORS)})")
    settings = _settings(arguments)
    if arguments.workers > 1 and settings.env not in ENVIRONMENTS and ":" not in settings.env:
        raise ValueError(f"--workers needs an id that processes can import: write package.module:{settings.env}")
    where = {"executor": arguments.executor, "workers": arguments.executor_workers} if arguments.executor else HERE
    if where:  # how far a round is, and workers that were lost
        logging.basicConfig(format="%(message)s")
        logging.getLogger("seal_env.distributed").setLevel(logging.INFO)
    if arguments.dry_run:
        print(json.dumps(settings.to_json(), indent=1))
        print(f"{len(settings.agents)} agents x {len(settings.seeds)} seeds, {_edits(settings)} scored edits of training")
        return None
    default = Path("runs") / f"{settings.env}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(arguments.resume or arguments.out or default)
    if not arguments.resume:
        create(folder, settings)
    with _locked(folder):
        if arguments.resume:
            _write_settings(folder, settings)  # they may have grown
        _note_command(folder)
        try:
            run_all(folder, settings, arguments.workers, arguments.wandb, where)
        except ValueError:
            if not any(folder.glob("runs/*/*/*.jsonl")):
                shutil.rmtree(folder)  # nothing came of it
            raise
        except (KeyboardInterrupt, WorkersLost):
            print(f"\nstopped; go on with: seal-bench run --resume {folder}", file=sys.stderr)
            raise
    if arguments.no_report:
        print(f"done: {folder}")
        return folder
    summary = summarise(read([folder]))
    write(summary, folder / "report")
    print(f"\n{table_text(summary)}\n\nreport    {folder / 'report' / 'report.html'}")
    for label, agent in settings.agents.items():
        if agent.learns and agent.type.writes:
            print(f"policy    {run_folder(folder, label, settings.seeds[0]) / 'policy'}  ({label})")
    return folder


def _settings(arguments: argparse.Namespace) -> Settings:
    tree = read_config(arguments.config) if arguments.config else {}
    named = {"env": arguments.env, "seeds": arguments.seeds, "budget": arguments.budget}
    changed = {name: value for name, value in named.items() if value is not None}
    asked = bool(arguments.config or changed or arguments.agents or arguments.overrides or arguments.no_baselines)
    if arguments.resume:
        before = read_settings(Path(arguments.resume))
        if not asked:
            return before
        if arguments.agents or arguments.no_baselines:
            raise ValueError("--resume takes the agents of the run directory; leave --agents and --no-baselines out")
        now = from_mapping({**(tree or before.to_json()), **changed}, arguments.overrides)
        _refuse_changes(before, now, arguments.resume)
        return now
    tree |= changed
    if arguments.agents or "agents" not in tree:
        tree["agents"] = list(arguments.agents.split(",") if arguments.agents else LEARNERS)
        if not arguments.no_baselines:
            tree["agents"] += from_mapping(tree, arguments.overrides).baselines()
    return from_mapping(tree, arguments.overrides)


def read_settings(folder: Path) -> Settings:
    """The settings of a run directory.

    Raises:
        ValueError: it is none.
    """
    path = folder / "benchmark.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no run directory (it has no benchmark.json)")
    try:
        return from_mapping(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _refuse_changes(before: Settings, now: Settings, folder: str) -> None:
    """Raise a ValueError where ``now`` does more than to add seeds or, where there were none, continual sequences."""
    same = before
    if set(before.seeds) <= set(now.seeds):
        same = replace(same, seeds=now.seeds)
    if before.evaluation.sequences == 0:
        same = replace(same, evaluation=replace(same.evaluation, sequences=now.evaluation.sequences))
    if changes := differences(same.to_json(), now.to_json()):
        said = "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in changes.items())
        raise ValueError(f"{folder} was begun with other settings, and results would not compare: {said}")


# The run directory ------------------------------------------------------------------------------------------------------


def create(folder: Path, settings: Settings) -> None:
    """Make a run directory; it appears whole or not at all.

    Raises:
        ValueError: there is something already, or the place cannot be written to.
    """
    if (folder / "benchmark.json").is_file():
        raise ValueError(f"{folder} holds a benchmark already: --resume {folder} goes on with it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no run directory: choose another --out")
    try:
        with atomic_folder(folder) as new:
            _write_settings(new, settings)
            append_lines(new / "tasks.jsonl", _evaluation_tasks(settings))
    except OSError as error:
        raise ValueError(f"cannot write a run directory at {folder}: {error.strerror or error}") from error


def _write_settings(folder: Path, settings: Settings) -> None:
    write_json(folder / "benchmark.json", settings.to_json())


def _evaluation_tasks(settings: Settings) -> list[dict[str, Any]]:
    engine = _make_env(settings, training=False, num_envs=1).unwrapped.engine
    count = engine.task_count
    if count < settings.evaluation.tasks:
        raise ValueError(f"evaluation.tasks is {settings.evaluation.tasks}, and there are {count}")
    if settings.evaluation.sequences and count < max(map(max, settings.sequences())) + 1:
        raise ValueError(
            f"evaluation.sequences is {settings.evaluation.sequences}, of {SEQUENCE} passages, and there are {count}"
        )
    return [
        {
            "task": i,
            "title": task.title,
            "context": task.context,
            "questions": [{"question": one.question, "answers": list(one.answers)} for one in task.questions],
        }
        for i, task in enumerate(engine.source[i] for i in range(settings.evaluation.tasks))
    ]


def _note_command(folder: Path) -> None:
    """Add this command to about.json: a benchmark that was gone on with has several."""
    path = folder / "about.json"
    sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path.is_file() else []
    versions = {name: version(name) for name in _PACKAGES if _installed(name)}
    about = {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    write_json(path, {"sessions": [*sessions, about]})


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _git() -> dict[str, Any] | None:
    """Revision of the checkout that this runs from, and whether it has changes; None where it is not one."""
    root = Path(seal_env.__file__).parents[1]
    found = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain"]):
        try:
            done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        found.append(done.stdout.strip())
    return {"revision": found[0], "changed": bool(found[1])}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within: nobody else writes there.

    Raises:
        ValueError: somebody does already.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another process is writing to {folder}; wait for it or stop it") from error
        yield


# Runs -------------------------------------------------------------------------------------------------------------------


def run_all(folder: Path, settings: Settings, workers: int, wandb: str | None = None, where: Mapping[str, Any] = HERE) -> None:
    """Every run that is not complete yet, ``workers`` at once, logged to the W&B project ``wandb`` if there is one.

    ``where`` holds the environments' keywords that say where edits are scored, which changes no result.
    """
    jobs = [(label, seed) for seed in settings.seeds for label in settings.agents]
    waiting = [job for job in jobs if not _complete(run_folder(folder, *job), settings)]
    learners = [job for job in jobs if settings.agents[job[0]].learns]
    learnt = sum(job not in waiting for job in learners) * settings.budget
    with make_view(total=_edits(settings), done=learnt, runs=len(jobs), complete=len(jobs) - len(waiting)) as view:
        if workers == 1:
            kept = shared_pool(where["executor"], where["workers"], settings.env_config(True).device) if where else None
            for job in waiting:
                run_one(folder, settings, *job, view, wandb, where)
            del kept  # until now, so that workers live from run to run
        elif waiting:
            _run_in_processes(folder, settings, waiting, workers, view, wandb)


def _complete(own: Path, settings: Settings) -> bool:
    asked = ["done.json", *(["continual.jsonl"] if settings.evaluation.sequences else [])]
    return all((own / name).is_file() for name in asked)


def _run_in_processes(
    folder: Path, settings: Settings, waiting: Sequence[tuple[str, int]], workers: int, view: View, wandb: str | None
) -> None:
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // workers)
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent)
    with manager:
        events = manager.Queue()
        with ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(threads,)) as pool:
            futures = [pool.submit(_run_in_worker, folder, settings, *job, events, wandb) for job in waiting]
            try:
                while not all(future.done() for future in futures):
                    time.sleep(0.2)
                    failed = [future for future in futures if future.done() and future.exception()]
                    for event in _drain(events):
                        view(event)
                    if failed:
                        break
                for future in as_completed([future for future in futures if future.done()]):
                    future.result()
                for event in _drain(events):
                    view(event)
            except BaseException:
                processes = list(pool._processes.values())  # which the pool forgets when it is shut down
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.terminate()
                raise


def _begin_worker(threads: int) -> None:
    end_with_parent()
    begin(threads)


def _drain(events: Any) -> Iterator[Event]:
    while not events.empty():
        yield events.get()


def _run_in_worker(folder: Path, settings: Settings, label: str, seed: int, events: Any, wandb: str | None) -> None:
    run_one(folder, settings, label, seed, events.put, wandb)


def run_one(
    folder: Path,
    settings: Settings,
    label: str,
    seed: int,
    tell: Callable[[Event], None],
    wandb: str | None = None,
    where: Mapping[str, Any] = HERE,
) -> None:
    """One agent with one seed, from its newest checkpoint if there is one.

    Raises:
        ValueError: the budget is too small for the agent to learn anything.
    """
    own, about = run_folder(folder, label, seed), settings.agents[label]
    own.mkdir(parents=True, exist_ok=True)
    tell(Event(label, seed, "started", 0, None))
    env = _make_env(settings, training=about.learns, num_envs=settings.num_envs, where=where)
    test = _make_env(settings, training=False, num_envs=settings.num_envs, where=where)
    policy = settings.make_policy()
    with _locked(own):
        checkpoint = latest(own / "checkpoints")
        if checkpoint:
            agent = about.type.load(checkpoint, env, policy)
        else:
            agent = about.type(env, policy, seed=seed, self_adapting=about.self_adapting, **about.config)
        write_json(own / "environment.json", _resolved(env, test, agent))
        evaluation = settings.evaluation
        evaluate = Evaluate(test, range(evaluation.tasks), evaluation.every, own / "evaluation.jsonl", seed, evaluation.start)
        callbacks: list[Callback] = [evaluate]
        if about.learns:
            logs: list[Callback] = [
                LogEdits(own / "edits.jsonl"),
                LogRounds(own / "rounds.jsonl"),
                TensorBoard(own / "tensorboard"),
            ]
            if wandb:
                logs.append(WandB(wandb, own / "wandb", f"{label} {seed}", folder.name, {"seed": seed, **asdict(about)}))
            callbacks = [*logs, evaluate, Checkpoint(own / "checkpoints"), _Tell(label, seed, tell, agent.edits)]
        agent.learn(settings.budget, callbacks)
        if about.learns:
            if agent.edits == 0:
                shutil.rmtree(own)
                raise ValueError(f"a budget of {settings.budget} edits is too small for one round of {label}")
            if agent.writes:
                with atomic_folder(own / "policy") as new:
                    policy.save(new)
                    agent.write_about(new)
        if evaluation.sequences and not (own / "continual.jsonl").is_file():
            with atomic_write(own / "continual.jsonl") as partial:
                append_lines(partial, _continual_lines(agent, settings, seed, where))
        write_json(own / "done.json", {"edits": agent.edits, "rounds": agent.rounds})
    tell(Event(label, seed, "complete", 0, evaluate.history[-1][1]))


def _resolved(env: Any, test: Any, agent: Agent) -> dict[str, Any]:
    """All settings of environments, agent and how the policy writes, defaults and what ``auto`` came to included."""
    return {
        "env": asdict(env.unwrapped.config),
        "evaluation": asdict(test.unwrapped.config),
        "policy": agent.policy.writing,
        "agent": asdict(agent.config),
    }


def _continual_lines(agent: Agent, settings: Settings, seed: int, where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What came of each step of each sequence of passages."""
    count = settings.evaluation.sequences
    env = gym.make_vec(settings.env, num_envs=min(count, settings.num_envs), **{**settings.continual_keywords(), **where})
    found = evaluate_sequences(agent, env, settings.sequences(), seed=seed)
    return [
        {"sequence": i, "step": t} | edit_line(one) | {"accuracy_row": list(one.info["accuracy_row"])}
        for i, steps in enumerate(found)
        for t, one in enumerate(steps)
    ]


class _Tell(Callback):
    def __init__(self, label: str, seed: int, tell: Callable[[Event], None], before: int) -> None:
        self.label, self.seed, self.tell, self.before = label, seed, tell, before

    def on_start(self, agent: Agent) -> None:
        if self.before:
            self.tell(Event(self.label, self.seed, "resumed", self.before, None))

    def on_round(self, agent: Agent, result: Round) -> bool:
        new = len(result.scored) + len(result.rescored)
        self.tell(Event(self.label, self.seed, f"{agent.edits} edits", new, result.metrics["reward"]))
        return True


def run_folder(folder: Path, label: str, seed: int) -> Path:
    """Where one run is kept."""
    return folder / "runs" / label / f"seed-{seed}"


def _make_env(settings: Settings, training: bool, num_envs: int, where: Mapping[str, Any] = HERE) -> Any:
    return gym.make_vec(settings.env, num_envs=num_envs, **{**settings.keywords(training), **where})


def _edits(settings: Settings) -> int:
    return sum(agent.learns for agent in settings.agents.values()) * len(settings.seeds) * settings.budget
