"""``seal-bench list``: what there is to choose from, a line each."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator

from agents import agent_names, get_agent
from benchmarks import CONFIGS, DEFAULTS
from seal_env.domains.config import from_keywords
from seal_env.edits import available_formats, get_format
from seal_env.evaluation.graders import GRADERS
from seal_env.registration import ENVIRONMENTS
from seal_env.rewards.proxy import PROXIES
from seal_env.tasks import load_tasks
from seal_env.tasks.arc.arc_sources import load_arc

EXAMPLES = """examples:
  seal-bench list
  seal-bench list agents
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=list(LISTS), help="one of these lists; all of them by default")


def run(arguments: argparse.Namespace) -> None:
    """Print the list that was asked for, or all of them under their names."""
    for what in [arguments.what] if arguments.what else LISTS:
        lines = list(LISTS[what]())
        if not arguments.what:
            print(what)
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            print(f"{'' if arguments.what else '  '}{name:{width}}  {text}".rstrip())


def _envs() -> Iterator[tuple[str, str]]:
    for name, keywords in ENVIRONMENTS.items():
        config = from_keywords(keywords)
        edits = f"{config.updates} self-edit{'s' if config.updates > 1 else ''} an episode"
        yield name, f"{config.dataset}, {config.model}, mode={config.mode}, {edits}"


def _datasets() -> Iterator[tuple[str, str]]:
    """The kinds that the docstrings of ``load_tasks`` and ``load_arc`` list."""
    for load in (load_tasks, load_arc):
        text = inspect.getdoc(load) or ""
        kinds, _, _ = text.partition("dataset: one of\n")[2].partition("\n\n")
        for kind in re.split(r"^ *- ", kinds, flags=re.MULTILINE)[1:]:
            yield " ".join(kind.replace("``", "").split()).rstrip(";."), ""


def _formats() -> Iterator[tuple[str, str]]:
    for name in available_formats():
        yield name, get_format(name).instruction or "(the passage alone)"


def _graders() -> Iterator[tuple[str, str]]:
    for name, (_, about) in GRADERS.items():
        yield name, about


def _proxies() -> Iterator[tuple[str, str]]:
    for name, (_, about) in PROXIES.items():
        yield name, about


def _agents() -> Iterator[tuple[str, str]]:
    for name in agent_names():
        try:
            found = get_agent(name)
        except ValueError as error:  # it needs what is not installed, or another package's is broken
            yield name, f"({error})"
            continue
        text = inspect.getdoc(found) or ""
        if text.startswith("See the module"):
            text = inspect.getdoc(sys.modules[found.__module__]) or ""
        yield name, text.partition("\n")[0]


def _configs() -> Iterator[tuple[str, str]]:
    for path in sorted(CONFIGS.glob("*.yaml")):
        if path.stem != DEFAULTS:
            lines = path.read_text(encoding="utf-8").splitlines()
            yield path.stem, next((line.lstrip("# ") for line in lines if line.startswith("#")), "")


LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "envs": _envs,
    "datasets": _datasets,
    "formats": _formats,
    "graders": _graders,
    "proxies": _proxies,
    "agents": _agents,
    "configs": _configs,
}
