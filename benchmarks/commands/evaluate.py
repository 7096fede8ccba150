"""``seal-bench eval``: the mean reward of a saved policy, of edits in a file, or of a baseline, on held-out tasks.

In a continual environment it is what is left at the end of each sequence of passages, in a corpus what one update on all edits
came to.

The interval is over tasks, by bootstrap: would it hold for other passages? What other seeds of training would have come to,
one policy cannot say; ``seal-bench run`` and its report do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np

from agents import Agent, Policy, ScoredEdit, evaluate, evaluate_sequences, get_agent
from agents.baselines import Baseline, FromFile, NoUpdate, Oracle, PassageOnly
from agents.callbacks import append_lines, edit_line
from agents.saved import agent_of, open_policy
from benchmarks import settings
from benchmarks.reports.intervals import Estimate, paired_difference
from seal_env.checks import check_at_least, check_choice
from seal_env.domains import from_keywords
from seal_env.envs import EnvConfig, SealVectorEnv
from seal_env.files import atomic_write
from seal_env.registration import ENVIRONMENTS
from seal_env.student import FitStatus

EXAMPLES = """examples:
  seal-bench eval --env SEAL-SQuAD-v0 --policy runs/first/runs/rest_em/seed-0/policy --out edits.jsonl
  seal-bench eval --env SEAL-SQuAD-v0 --edits edits.jsonl -P evaluations_per_edit=3
  seal-bench eval --env SEAL-SQuAD-v0 --agent hand_made --tasks 50
  seal-bench eval --env SEAL-SQuAD-v0 --agent untrained -P dataset=notes -P inner_loop.epochs=3
  seal-bench eval --env SEAL-SQuAD-Continual-v0 --agent hand_made --tasks 64
  seal-bench eval --env SEAL-SQuAD-Corpus-v0 --agent untrained -P updates_per_episode=200 --tasks 200
"""
_WRITES_NOTHING = (NoUpdate, PassageOnly, Oracle, FromFile)  # they need no language model


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        reward: mean over the tasks with a graded question, or over the episodes where one has several, with its interval.
        results: of each task.
    """

    reward: Estimate
    results: Sequence[ScoredEdit]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", required=True, help="id of an environment")
    parser.add_argument(
        "-P", dest="options", metavar="KEY=VALUE", action="append", default=[], help="a keyword of the environment, as YAML"
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--policy", metavar="DIR", help="what Policy.save or Agent.save wrote, or any PEFT LoRA adapter")
    who.add_argument("--edits", metavar="FILE", help="edits by passage: JSON lines with context and edit")
    who.add_argument("--agent", metavar="NAME", help="a baseline: no_update, passage_only, untrained, ...")
    parser.add_argument("--model", help="base of the policy; by default the one it was saved with, or the environment's")
    parser.add_argument("--edit-tokens", type=int, help="most tokens of an edit; by default as the policy was saved, or 256")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=int, help="the first so many of the split; default about 100")
    parser.add_argument("--num-envs", type=int, default=48, help="edits that are scored together")
    parser.add_argument("--seed", type=int, default=0, help="of edits and updates")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON lines, one a task; --edits reads them")


def run(arguments: argparse.Namespace) -> Evaluation:
    """Evaluate, print a line, and write what was asked for.

    Raises:
        ValueError: an argument is unusable; it is named.
    """
    settings.check_counts(arguments, "tasks", "num_envs", "edit_tokens")
    check_at_least("--seed", arguments.seed, 0)
    check_choice("--env", arguments.env, ENVIRONMENTS)
    options = {"split": arguments.split, **settings.tree_of(arguments.options)}
    config = from_keywords({**ENVIRONMENTS[arguments.env], **options})
    if config.mode == "refine":
        raise ValueError("--env must have a passage for every edit, and mode='refine' has one passage for several")
    episodes = _episodes(arguments.tasks, config.updates)
    num_envs = min(arguments.num_envs, len(episodes))
    env = gym.make_vec(arguments.env, num_envs=num_envs, **options)
    _check_there(env.unwrapped, episodes)
    single = {**options, "mode": "single", "updates_per_episode": 1}
    agent = _agent(arguments, config, gym.make_vec(arguments.env, num_envs=num_envs, **single))
    if config.updates == 1:
        results = evaluate(agent, env, [task for (task,) in episodes], seed=arguments.seed)
        found = [one.reward for one in results if _graded(one)] or [0.0]
    else:
        steps = evaluate_sequences(agent, env, episodes, seed=arguments.seed)
        results = [one for episode in steps for one in episode]
        found = [_at_the_end(episode[-1]) for episode in steps]
    reward = paired_difference(found, [0.0] * len(found))
    if arguments.out:
        _write(arguments.out, results, env.unwrapped)
    print("  ".join(_said(config, reward, results)))
    return Evaluation(reward, results)


def _said(config: EnvConfig, reward: Estimate, results: Sequence[ScoredEdit]) -> Iterator[str]:
    if config.mode == "continual":
        yield f"right after each update {float(np.mean([one.info['score'] for one in results])):.3f}"
        yield f"at the end {_shown(reward)}"
        yield f"sequences {len(results) // config.updates}"
    else:
        yield f"reward {_shown(reward)}"
    if gains := [one.info["gain"] for one in results if "gain" in one.info and _graded(one)]:
        yield f"gain {float(np.mean(gains)):.3f}"
    if config.approximate:
        yield "approximate, by a proxy"
    yield f"tasks {len(results)}"
    unused = sum(not FitStatus(one.info.get("fit_status", FitStatus.TRAINED)).learnt for one in results)
    yield f"edits that trained nothing {unused}"
    if ungraded := sum(one.info.get("ungraded", 0) for one in results):
        yield f"questions without a verdict {ungraded}"


def _graded(one: ScoredEdit) -> bool:
    """Whether the scores are about any question: a judge may refuse them all."""
    asked = len(one.info.get("questions", ())) * len(one.info.get("scores", ()))
    return not asked or one.info["ungraded"] < asked


def _episodes(tasks: int | None, length: int) -> list[list[int]]:
    """The first tasks, as many an episode as it has updates; by default about a hundred of them."""
    count = max(length, 100 // length * length) if tasks is None else tasks
    if count % length:
        raise ValueError(f"--tasks must be a multiple of {length}, the passages of an episode, got {count}")
    return [list(range(first, first + length)) for first in range(0, count, length)]


def _at_the_end(last: ScoredEdit) -> float:
    """What an episode of several passages came to: the accuracy on all of them after its last update."""
    return float(np.mean(last.info.get("accuracy_row", last.reward)))


def _shown(found: Estimate) -> str:
    return f"{found.value:.3f}" + ("" if found.low is None else f" [{found.low:.3f}, {found.high:.3f}]")


def _agent(arguments: argparse.Namespace, config: EnvConfig, env: Any) -> Agent:
    inherited = settings.policy_options(config)
    if arguments.policy:
        folder = Path(arguments.policy)
        policy = open_policy(folder, arguments.model, **inherited, **_edit_tokens(arguments))
        return get_agent("untrained")(env, policy, self_adapting=agent_of(folder).get("self_adapting", False))
    found = FromFile if arguments.edits else get_agent(arguments.agent)
    if not issubclass(found, Baseline):
        raise ValueError(f"--agent takes a baseline, and {arguments.agent} learns: evaluate what it saved with --policy")
    if issubclass(found, FromFile):
        if not arguments.edits:
            raise ValueError("--agent from_file needs a file: say --edits FILE instead")
        if not Path(arguments.edits).is_file():
            raise ValueError(f"--edits {arguments.edits}: there is no such file")
        return found(env, cast(Policy, None), path=arguments.edits)
    if issubclass(found, _WRITES_NOTHING):
        return found(env, cast(Policy, None))
    return found(env, Policy.from_pretrained(arguments.model or config.model, **inherited, **_edit_tokens(arguments)))


def _edit_tokens(arguments: argparse.Namespace) -> dict[str, int]:
    return {} if arguments.edit_tokens is None else {"max_new_tokens": arguments.edit_tokens}


def _check_there(env: Any, episodes: Sequence[Sequence[int]]) -> None:
    there, asked = cast(SealVectorEnv, env).task_count, sum(map(len, episodes))
    if there < asked:
        raise ValueError(f"--tasks {asked}: there are {there}")


def _write(path: Path, results: Sequence[ScoredEdit], env: Any) -> None:
    source = cast(SealVectorEnv, env).engine.source
    lines = []
    for one in results:
        line = edit_line(one)
        lines.append({"context": source[one.task].context, "edit": line.pop("text"), **line})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        append_lines(partial, lines)
