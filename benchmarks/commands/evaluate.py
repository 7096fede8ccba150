"""``seal-bench eval``: the mean reward of a saved policy, of edits in a file, or of a baseline, on held-out tasks.

In a continual environment the result is the accuracy at the end of each sequence of passages, in a corpus environment the
accuracy after the joint update on all edits.

The 95 % interval is a bootstrap over tasks: it covers other passages, not other training seeds. ``seal-bench run`` compares
seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.evaluation import Evaluation

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


def run(arguments: argparse.Namespace) -> Evaluation:
    """See :func:`benchmarks.evaluation.run`."""
    from benchmarks import evaluation

    return evaluation.run(arguments)
