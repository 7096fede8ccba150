"""``seal-bench eval``: the mean reward of a saved policy, of edits in a file, or of a baseline, on held-out tasks.

In a continual environment the result is the accuracy at the end of each sequence of passages, in a corpus environment the
accuracy after the joint update on all edits.

The 95 % interval is a bootstrap over tasks: it covers other passages, not other training seeds. ``seal-bench run`` compares
seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
import numpy as np

from seal_env.checks import check_at_least
from seal_env.files import atomic_write

if TYPE_CHECKING:
    from agents import Agent, ScoredEdit
    from benchmarks.reports.intervals import Estimate
    from seal_env.envs import EnvConfig

EXAMPLES = """examples:
  seal-bench eval --env SEAL-SQuAD-v0 --policy runs/first/runs/rest_em/seed-0/policy --out edits.jsonl
  seal-bench eval --env SEAL-SQuAD-v0 --edits edits.jsonl -P evaluations_per_edit=3
  seal-bench eval --env SEAL-SQuAD-v0 --agent oracle --tasks 50
  seal-bench eval --env SEAL-SQuAD-v0 --agent untrained -P dataset=notes -P inner_loop.epochs=3
  seal-bench eval --env SEAL-SQuAD-Continual-v0 --agent oracle --tasks 64
  seal-bench eval --env SEAL-SQuAD-Corpus-v0 --agent untrained -P updates_per_episode=200 --tasks 200
  seal-bench eval --env my_package.tasks:MyPassages-v0 --agent untrained
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env", required=True, help="id of a SEAL environment; package.module:Id-v0 imports the module that registers it"
    )
    parser.add_argument(
        "-P", dest="options", metavar="KEY=VALUE", action="append", default=[], help="a keyword of the environment, as YAML"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--policy", metavar="DIR", help="what Policy.save or Agent.save wrote, or any PEFT LoRA adapter")
    source.add_argument("--edits", metavar="FILE", help="edits by passage: JSON lines with context and edit")
    source.add_argument("--agent", metavar="NAME", help="a baseline: no_update, passage_only, untrained, ...")
    parser.add_argument("--model", help="base of the policy (default: the one it was saved with, or the environment's)")
    parser.add_argument("--edit-tokens", type=int, help="maximum tokens per edit (default: as the policy was saved, or 256)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=int, help="evaluate on the first N tasks of the split (default: about 100)")
    parser.add_argument("--num-envs", type=int, default=48, help="edits that are scored together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of edits and updates (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON lines, one per task, which --edits reads")


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        reward: mean over the tasks with a graded question, or over episodes where an episode has several tasks, with its
            95 % interval.
        results: one per task.
    """

    reward: Estimate
    results: Sequence[ScoredEdit]


def run(arguments: argparse.Namespace) -> Evaluation:
    """Evaluate as the arguments of ``seal-bench eval`` say, print a line, and write ``--out``.

    Raises:
        ValueError: an argument cannot work; the message names it.
    """
    from agents import evaluate, evaluate_sequences
    from agents.callbacks import append_lines, edit_line
    from benchmarks import settings
    from benchmarks.reports.intervals import mean_interval
    from seal_env.domains import from_keywords

    settings.check_counts(arguments, "tasks", "num_envs", "edit_tokens")
    check_at_least("--seed", arguments.seed, 0)
    options = {"split": arguments.split, **settings.tree_of(arguments.options)}
    config = from_keywords({**settings.env_keywords(arguments.env), **options})
    if config.mode == "refine":
        raise ValueError("--env must have a passage for every edit, and mode='refine' has one passage for several")
    episodes = _episodes(arguments.tasks, config.updates)
    num_envs = min(arguments.num_envs, len(episodes))
    env = gym.make_vec(arguments.env, num_envs=num_envs, **options)
    engine = cast(Any, env.unwrapped).engine
    count = sum(map(len, episodes))
    if engine.task_count < count:
        raise ValueError(f"--tasks {count}: there are {engine.task_count}")
    single = {**options, "mode": "single", "updates_per_episode": 1}
    agent = _make_agent(arguments, config, gym.make_vec(arguments.env, num_envs=num_envs, **single))
    if config.updates == 1:
        results = evaluate(agent, env, [task for (task,) in episodes], seed=arguments.seed)
        rewards = [result.reward for result in results if _graded(result)] or [0.0]
    else:
        steps = evaluate_sequences(agent, env, episodes, seed=arguments.seed)
        results = [result for episode in steps for result in episode]
        # An episode's reward is the accuracy on all of its passages after the last update.
        rewards = [float(np.mean(episode[-1].info.get("accuracy_row", episode[-1].reward))) for episode in steps]
    reward = mean_interval(rewards)
    if arguments.out:
        lines = []
        for result in results:
            line = edit_line(result)
            lines.append({"context": engine.source[result.task].context, "edit": line.pop("text"), **line})
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.out) as partial:
            append_lines(partial, lines)
    print("  ".join(_summary(config, reward, results)))
    return Evaluation(reward, results)


def _summary(config: EnvConfig, reward: Estimate, results: Sequence[ScoredEdit]) -> Iterator[str]:
    """The parts of the line that is printed."""
    from seal_env.student import FitStatus

    interval = f"{reward.value:.3f}" + ("" if reward.low is None else f" [{reward.low:.3f}, {reward.high:.3f}]")
    if config.mode == "continual":
        yield f"right after each update {float(np.mean([result.info['score'] for result in results])):.3f}"
        yield f"at the end {interval}"
        yield f"sequences {len(results) // config.updates}"
    else:
        yield f"reward {interval}"
    if gains := [result.info["gain"] for result in results if "gain" in result.info and _graded(result)]:
        yield f"gain {float(np.mean(gains)):.3f}"
    if config.approximate:
        yield "approximate, by a proxy"
    yield f"tasks {len(results)}"
    untrained = sum(not FitStatus(result.info.get("fit_status", FitStatus.TRAINED)).learnt for result in results)
    yield f"edits that trained nothing {untrained}"
    if ungraded := sum(result.info.get("ungraded", 0) for result in results):
        yield f"questions without a verdict {ungraded}"


def _graded(result: ScoredEdit) -> bool:
    """Whether any question has a verdict: a judge may refuse all of them."""
    questions = len(result.info.get("questions", ())) * len(result.info.get("scores", ()))
    return not questions or result.info["ungraded"] < questions


def _episodes(tasks: int | None, length: int) -> list[list[int]]:
    """Task indices of each episode, ``length`` per episode; about a hundred tasks by default."""
    count = max(length, 100 // length * length) if tasks is None else tasks
    if count % length:
        raise ValueError(f"--tasks must be a multiple of {length}, the passages of an episode, got {count}")
    return [list(range(first, first + length)) for first in range(0, count, length)]


def _make_agent(arguments: argparse.Namespace, config: EnvConfig, env: Any) -> Agent:
    """The agent of ``--policy``, ``--edits`` or ``--agent``, on an environment with single-update episodes."""
    from agents import Policy, get_agent
    from agents.baselines import Baseline, FromFile, NoUpdate, Oracle, PassageOnly
    from agents.saved import agent_of, open_policy
    from benchmarks import settings

    options = settings.policy_options(config)
    if arguments.edit_tokens is not None:
        options["max_new_tokens"] = arguments.edit_tokens
    if arguments.policy:
        folder = Path(arguments.policy)
        policy = open_policy(folder, arguments.model, **options)
        return get_agent("untrained")(env, policy, self_adapting=agent_of(folder).get("self_adapting", False))
    agent_class = FromFile if arguments.edits else get_agent(arguments.agent)
    if not issubclass(agent_class, Baseline):
        raise ValueError(f"--agent takes a baseline, and {arguments.agent} learns: evaluate what it saved with --policy")
    if issubclass(agent_class, FromFile):
        if not arguments.edits:
            raise ValueError("--agent from_file needs a file: use --edits FILE instead")
        if not Path(arguments.edits).is_file():
            raise ValueError(f"--edits {arguments.edits}: there is no such file")
        return agent_class(env, cast(Any, None), path=arguments.edits)
    if issubclass(agent_class, NoUpdate | PassageOnly | Oracle):
        return agent_class(env, cast(Any, None))
    return agent_class(env, Policy.from_pretrained(arguments.model or config.model, **options))
