"""What ``seal-bench tune`` does: try settings of the inner loop, of the adapter and of sampling on validation tasks."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from agents.callbacks import append_lines, drop_lines
from benchmarks.measurements.effects import EffectScorer
from benchmarks.reports.report_tables import aligned
from benchmarks.run_directory import add_session
from benchmarks.settings import env_keywords, tree_of
from seal_env.checks import check_count
from seal_env.domains import from_keywords
from seal_env.edits import gold_statements
from seal_env.files import atomic_write, write_json
from seal_env.student import Sampling

SIGNATURE = "search.json"  # the arguments that a search is continued with
_NOT_COMPARED = ("out", "command", "num_envs")
FIRST = 3  # the first trials have a third of the tasks; the best third of them is tried on all


@dataclass(frozen=True)
class Trial:
    """The figures of one setting.

    Attributes:
        lora: options of ``peft.LoraConfig``.
        inner_loop: options of the inner loop.
        temperature: of the model's own edits.
        tasks: number of tasks, the first ones of the split.
        gold: mean score after gold statements, from 0 to 1.
        own: mean score after the untrained model's own edits.
        seconds: to train and to answer, per edit.
        tokens: trained tokens per edit, over all epochs.
    """

    lora: Mapping[str, Any]
    inner_loop: Mapping[str, Any]
    temperature: float
    tasks: int
    gold: float
    own: float
    seconds: float
    tokens: float

    @property
    def key(self) -> str:
        """The setting, as text."""
        return _key(self.lora, self.inner_loop, self.temperature, self.tasks)

    @property
    def accuracy(self) -> float:
        """Mean of ``gold`` and ``own``."""
        return (self.gold + self.own) / 2


class Search:
    """A search in a folder; trials that are in the folder are not run again.

    1. Every combination of learning rate, epochs and batch size is tried on a third of the tasks, and the best third of them
       on all tasks.
    2. Every combination of rank and targets is tried with the chosen inner loop.
    3. Every temperature is tried with the chosen adapter and inner loop. Its edits are new; only ``own`` differs.

    Each step chooses the cheapest setting, in seconds, whose mean of ``gold`` and ``own`` is within ``tolerance`` of the best.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.options: dict[str, Any] = {"split": "validation", **tree_of(arguments.options)}
        self.config = from_keywords({**env_keywords(arguments.env), **self.options})
        self.path = arguments.out / "trials.jsonl"
        self.edits: dict[float, list[str]] = {}
        self.signature = {name: value for name, value in vars(arguments).items() if name not in _NOT_COMPARED}
        self._begun = False
        self._scorer: tuple[str, EffectScorer] | None = None

    def run(self) -> Trial:
        """Search, print the table, and write ``chosen.yaml``; returns the chosen setting on all tasks."""
        arguments = self.arguments
        self.trials = {trial.key: trial for trial in (Trial(**line) for line in drop_lines(self.path, lambda line: True))}
        lora: Mapping[str, Any] = dict(self.config.lora_options())
        temperature = arguments.default_temperature
        names = ("learning_rate", "epochs", "batch_size")
        grid = itertools.product(arguments.learning_rates, arguments.epochs, arguments.batch_sizes)
        loops = [dict(zip(names, values)) for values in grid]
        few = max(1, arguments.tasks // FIRST)
        if few < arguments.tasks and len(loops) > FIRST:
            first = [self.trial(lora, loop, temperature, few) for loop in loops]
            first.sort(key=lambda trial: -trial.accuracy)
            loops = [dict(trial.inner_loop) for trial in first[: max(1, len(first) // FIRST)]]
        chosen = self.choose(self.trial(lora, loop, temperature, arguments.tasks) for loop in loops)
        adapters = [
            {**lora, "r": rank, "lora_alpha": 2 * rank, "target_modules": targets}
            for rank, targets in itertools.product(arguments.ranks, arguments.targets)
        ]
        chosen = self.choose(
            [chosen, *(self.trial(adapter, chosen.inner_loop, temperature, arguments.tasks) for adapter in adapters)]
        )
        others = [t for t in arguments.temperatures if t != temperature]
        chosen = self.choose(
            [chosen, *(self.trial(chosen.lora, chosen.inner_loop, other, arguments.tasks) for other in others)]
        )
        print(table(self.trials.values(), chosen))
        self._write(chosen)
        return chosen

    def choose(self, trials: Iterable[Trial]) -> Trial:
        """The cheapest of the trials that are within the tolerance of the best."""
        tried = list(trials)
        best = max(trial.accuracy for trial in tried)
        return min((t for t in tried if t.accuracy >= best - self.arguments.tolerance), key=lambda trial: trial.seconds)

    def trial(self, lora: Mapping[str, Any], inner_loop: Mapping[str, Any], temperature: float, tasks: int) -> Trial:
        """Try a setting, or read its line."""
        if (done := self.trials.get(_key(lora, inner_loop, temperature, tasks))) is not None:
            return done
        scorer = self._make_scorer(lora)
        own_edits = self._own_edits(scorer, temperature)
        settings = scorer.settings.with_options(**inner_loop)
        started = time.perf_counter()
        gold = scorer.effects([gold_statements(task) for task in scorer.tasks[:tasks]], settings)
        own = scorer.effects(own_edits[:tasks], settings)
        effects = [*gold, *own]
        trial = Trial(
            *(dict(lora), dict(inner_loop), temperature, tasks),
            gold=sum(effect.score for effect in gold) / tasks,
            own=sum(effect.score for effect in own) / tasks,
            seconds=(time.perf_counter() - started) / len(effects),
            tokens=sum(effect.tokens for effect in effects) / len(effects),
        )
        self.trials[trial.key] = trial
        append_lines(self.path, [vars(trial)])
        print(_line(trial), flush=True)
        return trial

    def _make_scorer(self, lora: Mapping[str, Any]) -> EffectScorer:
        """The scorer with this adapter; only the last one is kept, for its memory. The answers before the update, which all
        trials share, are generated here and not timed.
        """
        name = json.dumps(lora, sort_keys=True)
        if self._scorer is None or self._scorer[0] != name:
            self._scorer = None
            options = {**self.options, "lora": dict(lora)}
            scorer = EffectScorer(self.arguments.env, self.arguments.tasks, batch=self.arguments.num_envs, **options)
            self._begin()
            scorer.closed_book()
            self._scorer = (name, scorer)
        return self._scorer[1]

    def _begin(self) -> None:
        """Create the folder, once there is a model and a dataset, and record this session."""
        if not self._begun:
            self.arguments.out.mkdir(parents=True, exist_ok=True)
            write_json(self.arguments.out / SIGNATURE, self.signature)
            add_session(self.arguments.out)
            self._begun = True

    def _own_edits(self, scorer: EffectScorer, temperature: float) -> list[str]:
        """The model's own edits for all tasks, written once."""
        path = self.arguments.out / f"edits-{temperature}.json"
        if temperature not in self.edits:
            if not path.is_file():
                sampling = Sampling(temperature, self.arguments.top_p)
                write_json(path, scorer.write(scorer.settings.format, sampling, self.arguments.edit_tokens))
            self.edits[temperature] = json.loads(path.read_text(encoding="utf-8"))
        return self.edits[temperature]

    def _write(self, chosen: Trial) -> None:
        """``chosen.yaml``: the settings of a benchmark, without its agents."""
        arguments = self.arguments
        options = {name: value for name, value in self.options.items() if name != "split"}
        policy = {"temperature": chosen.temperature, "top_p": arguments.top_p, "max_new_tokens": arguments.edit_tokens}
        settings = {"lora": dict(chosen.lora), "inner_loop": {**options.get("inner_loop", {}), **chosen.inner_loop}}
        tree = {"env": arguments.env, "env_options": {**options, **settings}, "policy": policy}
        with atomic_write(self.arguments.out / "chosen.yaml") as partial:
            partial.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def run_search(arguments: argparse.Namespace) -> Trial:
    """Search as the arguments of ``seal-bench tune`` say.

    Raises:
        ValueError: an argument cannot work; the message names it.
    """
    check_count("--tasks", arguments.tasks)
    check_count("--num-envs", arguments.num_envs)
    search, recorded = Search(arguments), arguments.out / SIGNATURE
    if recorded.is_file() and json.loads(recorded.read_text(encoding="utf-8")) != json.loads(json.dumps(search.signature)):
        raise ValueError(f"--out {arguments.out} holds a search with other arguments: choose another folder")
    return search.run()


def table(trials: Iterable[Trial], chosen: Trial) -> str:
    """All trials, the most accurate first."""
    rows = [["r", "targets", "learning rate", "epochs", "batch", "temperature", "tasks", "gold %", "own %", "s/edit", ""]]
    for trial in sorted(trials, key=lambda trial: (-trial.tasks, -trial.accuracy)):
        rows.append([*_cells(trial), "chosen" if trial == chosen else ""])
    return "\n".join(aligned(rows))


def _cells(trial: Trial) -> list[str]:
    targets, loop = trial.lora.get("target_modules"), trial.inner_loop
    named = targets if isinstance(targets, str) else "+".join(targets) if targets else "default"
    setting = [str(trial.lora.get("r", "")), named, f"{loop['learning_rate']:g}", str(loop["epochs"])]
    setting += [str(loop["batch_size"] or "all"), f"{trial.temperature:g}", str(trial.tasks)]
    return [*setting, f"{100 * trial.gold:.1f}", f"{100 * trial.own:.1f}", f"{trial.seconds:.2f}"]


def _line(trial: Trial) -> str:
    return "  ".join(_cells(trial))


def _key(lora: Mapping[str, Any], inner_loop: Mapping[str, Any], temperature: float, tasks: int) -> str:
    return json.dumps([dict(lora), dict(inner_loop), temperature, tasks], sort_keys=True)
