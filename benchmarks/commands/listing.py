"""``seal-bench list``: everything that is found by name, one line each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym

from agents.agent_registry import AGENTS
from benchmarks import CONFIGS, DEFAULTS
from seal_env.checks import check_choice
from seal_env.domains import DOMAINS, domain_of, keyword_reference
from seal_env.domains.config import UPDATES
from seal_env.domains.keywords import details
from seal_env.edits import FORMATS
from seal_env.evaluation.graders import GRADERS
from seal_env.optimizers import OPTIMIZERS
from seal_env.registry import Registry
from seal_env.rewards import PROXIES, REWARDS
from seal_env.tasks import DATASETS

REGISTRIES: dict[str, Registry[Any]] = {
    "datasets": DATASETS,
    "formats": FORMATS,
    "graders": GRADERS,
    "rewards": REWARDS,
    "proxies": PROXIES,
    "optimizers": OPTIMIZERS,
    "domains": DOMAINS,
    "agents": AGENTS,
}
LISTS = ("envs", *REGISTRIES, "configs")
EXAMPLES = """examples:
  seal-bench list
  seal-bench list agents
  seal-bench list --env SEAL-SQuAD-v0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=LISTS, help="one of these lists; all of them by default")
    parser.add_argument("--env", metavar="ID", help="list the keywords of this environment with their defaults instead")


def run(arguments: argparse.Namespace) -> None:
    """Print one list, all of them under their names, or the keywords of one environment."""
    if arguments.env:
        environments = dict(_environments())
        check_choice("--env", arguments.env, environments)
        keywords = environments[arguments.env]
        for row in keyword_reference(domain_of(keywords).Config, keywords):
            print(f"{row.name:21} {details(row)}: {row.help}")
        return
    for what in [arguments.what] if arguments.what else LISTS:
        lines = list(_envs() if what == "envs" else _configs() if what == "configs" else _registered(REGISTRIES[what]))
        if not arguments.what:
            print(what)
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            print(f"{'' if arguments.what else '  '}{name:{width}}  {text}".rstrip())


def _registered(registry: Registry[Any]) -> Iterator[tuple[str, str]]:
    for entry in registry.entries():
        description = entry.description
        if entry.package:  # ours are not imported, which takes seconds
            try:
                registry.get(entry.name)
            except ValueError as error:
                description = f"({error})"
        yield entry.name, description


def _envs() -> Iterator[tuple[str, str]]:
    for name, keywords in _environments():
        try:
            config_class = domain_of(keywords).Config
        except ValueError as error:
            yield name, f"({error})"
            continue
        # Not an instance of it, which is validated: that imports PEFT.
        values: dict[str, Any] = {field.name: field.default for field in fields(config_class)} | keywords
        updates = values["updates_per_episode"] or UPDATES[values["mode"]]
        edits = f"{updates} self-edit{'s' if updates > 1 else ''} an episode"
        yield name, f"{values['dataset']}, {values['model']}, mode={values['mode']}, {edits}"


def _environments() -> Iterator[tuple[str, dict[str, Any]]]:
    """Registered ids of this package's environments, and the keywords that they are registered with."""
    for name, spec in gym.registry.items():
        if str(spec.entry_point).startswith("seal_env."):
            yield name, spec.kwargs


def _configs() -> Iterator[tuple[str, str]]:
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem != DEFAULTS:
            lines = path.read_text(encoding="utf-8").splitlines()
            yield path.stem, next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
