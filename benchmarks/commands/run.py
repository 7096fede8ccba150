"""``seal-bench run``: train and evaluate agents with several seeds on equal budgets, in a run directory that can be resumed.

A run directory holds the settings, JSON lines for every scored edit, round and evaluated task, TensorBoard events, checkpoints
and the final policies (docs/benchmarks.md). Apart from seconds, the lines do not depend on interruptions or on ``num_envs``.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from benchmarks.commands.report import write
from benchmarks.reports.renamed_keys import upgrade
from benchmarks.reports.report_tables import table_text
from benchmarks.reports.run_records import differences, read
from benchmarks.reports.summary import summarise
from benchmarks.run_directory import add_session, create, locked, read_settings, run_folder, write_settings
from benchmarks.runner import Runner
from benchmarks.settings import LEARNERS, Settings, from_mapping, read_config
from seal_env.distributed import EXECUTORS, WorkersLost
from seal_env.registration import ENVIRONMENTS

EXAMPLES = """examples:
  seal-bench run --env SEAL-SQuAD-v0 --agents rest_em,grpo --seeds 3 --budget 480 --out runs/first
  seal-bench run --config squad --workers 2 --out runs/squad
  seal-bench run --config squad -P agents.grpo.config.beta=0.04 -P evaluation.tasks=50 --out runs/kl
  seal-bench run --resume runs/squad
  seal-bench run --config squad --executor ray --out runs/squad
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", help="id of a SEAL environment; package.module:Id-v0 imports the module that registers it")
    parser.add_argument("--agents", help=f"learners, by name or import path, separated by commas; default {','.join(LEARNERS)}")
    parser.add_argument("--no-baselines", action="store_true", help="leave out the baselines")
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--budget", type=int, help="scored self-edits of every run")
    parser.add_argument("--config", help="a benchmark's YAML file, or the name of one that comes with the package")
    parser.add_argument(
        "-P", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="a setting, with dots between levels"
    )
    parser.add_argument("--out", help="the run directory; default runs/ENV-TIME")
    parser.add_argument("--resume", metavar="DIR", help="continue a run directory")
    parser.add_argument("--workers", type=int, default=1, help="runs at once, each in a process of its own")
    parser.add_argument(
        "--executor", choices=EXECUTORS, help="score edits on processes of this machine, or on Ray (docs/scale.md)"
    )
    parser.add_argument("--executor-workers", type=int, metavar="N", help="how many; default one per GPU or CPU")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the settings, and run nothing")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases as well (WANDB_MODE=offline: on disk)")
    parser.add_argument("--no-report", action="store_true", help="print no table at the end and write no report")


def run(arguments: argparse.Namespace) -> Path | None:
    """Start or resume a benchmark; returns the run directory, or None after ``--dry-run``.

    Raises:
        ValueError: an argument or a setting cannot be used, or the directory cannot be created or resumed.
    """
    executor = _executor(arguments)
    settings = _settings(arguments)
    if arguments.workers > 1 and settings.env not in ENVIRONMENTS and ":" not in settings.env:
        raise ValueError(f"--workers needs an id that processes can import: write package.module:{settings.env}")
    if arguments.dry_run:
        print(json.dumps(settings.to_json(), indent=1))
        runs = f"{len(settings.agents)} agents x {len(settings.seeds)} seeds"
        print(f"{runs}, {settings.training_edits} scored edits of training")
        return None
    default = Path("runs") / f"{settings.env}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(arguments.resume or arguments.out or default)
    if not arguments.resume:
        create(folder, settings)
    with locked(folder):
        if arguments.resume:
            upgrade(folder)
            write_settings(folder, settings)  # seeds or sequences may have been added
        add_session(folder)
        try:
            Runner(folder, settings, arguments.wandb, executor).run_all(arguments.workers)
        except ValueError:
            if not any(folder.glob("runs/*/*/*.jsonl")):
                shutil.rmtree(folder)  # it holds no result
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
        if agent.learns and agent.type.uses_policy:
            print(f"policy    {run_folder(folder, label, settings.seeds[0]) / 'policy'}  ({label})")
    return folder


def _executor(arguments: argparse.Namespace) -> dict[str, str | int | None]:
    """Keywords of the environment that say where edits are scored; none: in the process of the run."""
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}")
    if arguments.executor and arguments.workers > 1:
        raise ValueError("--workers is for several runs at once, --executor for several edits of one run: choose one")
    if arguments.executor_workers is not None and not arguments.executor:
        raise ValueError(f"--executor-workers needs --executor ({' or '.join(EXECUTORS)})")
    if not arguments.executor:
        return {}
    logging.basicConfig(format="%(message)s")  # progress of a round, and lost workers
    logging.getLogger("seal_env.distributed").setLevel(logging.INFO)
    return {"executor": arguments.executor, "workers": arguments.executor_workers}


def _settings(arguments: argparse.Namespace) -> Settings:
    tree = read_config(arguments.config) if arguments.config else {}
    options = {"env": arguments.env, "seeds": arguments.seeds, "budget": arguments.budget}
    options = {name: value for name, value in options.items() if value is not None}
    if arguments.resume:
        if arguments.agents or arguments.no_baselines:
            raise ValueError("--resume takes the agents of the run directory; leave --agents and --no-baselines out")
        before = read_settings(Path(arguments.resume))
        now = from_mapping({**(tree or before.to_json()), **options}, arguments.overrides)
        _refuse_changes(before, now, arguments.resume)
        return now
    tree |= options
    if arguments.agents or "agents" not in tree:
        tree["agents"] = list(arguments.agents.split(",") if arguments.agents else LEARNERS)
        if not arguments.no_baselines:
            tree["agents"] += from_mapping(tree, arguments.overrides).baselines()
    return from_mapping(tree, arguments.overrides)


def _refuse_changes(before: Settings, now: Settings, folder: str) -> None:
    """Raise a ValueError unless ``now`` only adds seeds or, where there were none, continual sequences."""
    allowed = before
    if set(before.seeds) <= set(now.seeds):
        allowed = replace(allowed, seeds=now.seeds)
    if before.evaluation.sequences == 0:
        allowed = replace(allowed, evaluation=replace(allowed.evaluation, sequences=now.evaluation.sequences))
    if changes := differences(allowed.to_json(), now.to_json()):
        listed = "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in changes.items())
        raise ValueError(f"{folder} was started with other settings, and results would not compare: {listed}")
