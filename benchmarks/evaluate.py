"""``seal-bench eval``: the mean reward of a saved policy, of edits in a file, or of a baseline, on held-out tasks.

The interval is over tasks, by bootstrap: would it hold for other passages? What other seeds of training would have come to,
one policy cannot say; ``seal-bench run`` and its report do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import torch
from peft import LoraConfig, PeftConfig
from safetensors import safe_open

from agents import Agent, Evaluated, Policy, evaluate, get_agent
from agents.baselines import Baseline, FromFile, HandMade, NoUpdate, PassageOnly
from agents.callbacks import append_lines, edit_line
from benchmarks import settings
from benchmarks.statistics import Estimate, paired_difference
from seal_env.checks import check_at_least, check_choice
from seal_env.envs import EnvConfig, SealVectorEnv
from seal_env.envs.config import from_keywords
from seal_env.files import whole
from seal_env.models import bundled_models
from seal_env.registration import ENVIRONMENTS
from seal_env.student.checkpoint import load_adapter

EXAMPLES = """examples:
  seal-bench eval --env SEAL-SQuAD-v0 --policy runs/first/runs/rest_em/seed-0/policy --out edits.jsonl
  seal-bench eval --env SEAL-SQuAD-v0 --edits edits.jsonl -P evaluations_per_edit=3
  seal-bench eval --env SEAL-SQuAD-v0 --agent hand_made --tasks 50
  seal-bench eval --env SEAL-SQuAD-v0 --agent untrained -P dataset=notes -P inner_loop.epochs=3
"""
_WRITES_NOTHING = (NoUpdate, PassageOnly, HandMade, FromFile)  # they need no language model


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        reward: mean over the tasks, with its interval.
        results: of each task.
    """

    reward: Estimate
    results: Sequence[Evaluated]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", required=True, help="id of an environment of one-update episodes")
    parser.add_argument(
        "-P", dest="options", metavar="KEY=VALUE", action="append", default=[], help="a keyword of the environment, as YAML"
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--policy", metavar="DIR", help="what Policy.save or Agent.save wrote, or any PEFT LoRA adapter")
    who.add_argument("--edits", metavar="FILE", help="edits by passage: JSON lines with context and edit")
    who.add_argument("--agent", metavar="NAME", help="a baseline: no_update, passage_only, untrained, ...")
    parser.add_argument("--model", help="base of the policy; by default the one it was saved with, or the environment's")
    parser.add_argument("--edit-tokens", type=int, default=256, help="most tokens of an edit")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=int, default=100, help="the first so many of the split")
    parser.add_argument("--places", type=int, default=48, help="edits that are scored together")
    parser.add_argument("--seed", type=int, default=0, help="of edits and updates")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write JSON lines, one a task; --edits reads them")


def run(arguments: argparse.Namespace) -> Evaluation:
    """Evaluate, print a line, and write what was asked for.

    Raises:
        ValueError: an argument is unusable; it is named.
    """
    for name in ("tasks", "places", "edit_tokens"):
        check_at_least(f"--{name.replace('_', '-')}", getattr(arguments, name), 1)
    check_at_least("--seed", arguments.seed, 0)
    check_choice("--env", arguments.env, ENVIRONMENTS)
    options = {"split": arguments.split, **options_of(arguments.options)}
    config = from_keywords({**ENVIRONMENTS[arguments.env], **options})
    if config.updates != 1:
        raise ValueError(f"--env must be of one-update episodes, and mode={config.mode!r} has {config.updates} updates")
    places = min(arguments.places, arguments.tasks)
    env = gym.make_vec(arguments.env, num_envs=places, **options)
    agent = _agent(arguments, config, gym.make_vec(arguments.env, num_envs=places, **options))
    results = evaluate(agent, env, _tasks(env.unwrapped, arguments.tasks), seed=arguments.seed)
    reward = paired_difference([one.reward for one in results], [0.0] * len(results))
    if arguments.out:
        _write(arguments.out, results, env.unwrapped)
    gain = sum(one.info["gain"] for one in results) / len(results)
    unused = sum(one.info["fit_status"] not in ("trained", "truncated") for one in results)
    interval = "" if reward.low is None else f"  [{reward.low:.3f}, {reward.high:.3f}]"
    print(f"reward {reward.value:.3f}{interval}  gain {gain:.3f}  tasks {len(results)}  edits that trained nothing {unused}")
    return Evaluation(reward, results)


def options_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Keywords of an environment from ``key=value``, as YAML, with dots between levels (``inner_loop.epochs=3``)."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        settings.apply_override(tree, pair)
    return tree


def load_policy(
    folder: Path, model: str | None = None, *, edit_tokens: int = 256, **options: Any
) -> tuple[Policy, dict[str, Any]]:
    """The policy in a folder that ``Policy.save``, ``Agent.save`` or PEFT wrote, and what ``agent.json`` says, if it is there.

    Args:
        folder: where it is.
        model: its base; None: the one that the folder names.
        edit_tokens: most tokens of an edit.
        options: ``device``, ``dtype``, ``trust_remote_code`` and ``template``, as the policy takes them.

    Raises:
        ValueError: there is no policy, or it does not fit the base.
    """
    options["max_new_tokens"] = edit_tokens
    about = {}
    if (folder / "agent.json").is_file():
        about = json.loads((folder / "agent.json").read_text(encoding="utf-8"))
        folder = folder / "policy"
    if (folder / "model").is_dir():  # all weights
        return Policy.from_pretrained(str(folder / "model"), **options), about
    if not (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds no policy: neither adapter_config.json, nor model, nor agent.json")
    lora = PeftConfig.from_pretrained(str(folder))
    if not isinstance(lora, LoraConfig):
        raise ValueError(f"{folder} holds a {lora.peft_type} adapter; only LoRA can be loaded")
    name = model or base_of(folder)
    if name is None:
        raise ValueError(f"{folder} names no base: say --model")
    saved = folder / "policy.safetensors"
    try:
        if saved.is_file():  # exactly as it was: what was merged is merged again, not joined
            policy = Policy.from_pretrained(name, _own_part(lora, _adapters(saved)), **options)
            policy.load(folder)
        else:
            policy = Policy.from_pretrained(name, lora, **options)
            with torch.no_grad():
                policy.adapter.copy_(load_adapter(policy._student.layout, folder))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    return policy, about


def base_of(folder: Path) -> str | None:
    """The base that a saved policy with an adapter names; None where the folder says nothing of one."""
    for config in (folder / "adapter_config.json", folder / "policy" / "adapter_config.json"):
        if config.is_file():
            recorded = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
            name = Path(recorded or "").name
            return name if name in bundled_models() else recorded  # a bundled one is wherever the package is
    return None


def _adapters(saved: Path) -> int:
    with safe_open(saved, "pt") as file:
        return len(file.keys())


def _own_part(lora: LoraConfig, count: int) -> LoraConfig:
    """The configuration of one of ``count`` adapters that were saved as one (see :func:`agents.policy.save_joined`)."""
    divisor = count**0.5 if lora.use_rslora else count
    lora.r //= count
    lora.lora_alpha = _whole(lora.lora_alpha / divisor)
    lora.rank_pattern = {name: r // count for name, r in lora.rank_pattern.items()}
    lora.alpha_pattern = {name: _whole(alpha / count) for name, alpha in lora.alpha_pattern.items()}
    return lora


def _whole(number: float) -> Any:
    return int(number) if float(number).is_integer() else number


def _agent(arguments: argparse.Namespace, config: EnvConfig, env: Any) -> Agent:
    inherited = settings.policy_options(config)
    if arguments.policy:
        folder = Path(arguments.policy)
        policy, about = load_policy(folder, arguments.model, edit_tokens=arguments.edit_tokens, **inherited)
        return get_agent("untrained")(env, policy, self_adapting=about.get("self_adapting", False))
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
    options = {**inherited, "max_new_tokens": arguments.edit_tokens}
    return found(env, Policy.from_pretrained(arguments.model or config.model, **options))


def _tasks(env: Any, count: int) -> Sequence[int]:
    there = cast(SealVectorEnv, env).task_count
    if there < count:
        raise ValueError(f"--tasks {count}: there are {there}")
    return range(count)


def _write(path: Path, results: Sequence[Evaluated], env: Any) -> None:
    source = cast(SealVectorEnv, env).core.source
    lines = []
    for one in results:
        line = edit_line(one)
        lines.append({"context": source[one.task].context, "edit": line.pop("text"), **line})
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        append_lines(partial, lines)
