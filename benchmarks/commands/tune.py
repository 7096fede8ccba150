"""``seal-bench tune``: choose the adapter, the inner loop and the temperature for a model and a dataset.

Settings are compared on validation tasks: by the accuracy after gold statements (each question with its answer), by that after
edits that the untrained model wrote, and by seconds per edit. Every trial is a line of ``trials.jsonl``; the same command
continues a search that was interrupted. ``chosen.yaml`` has the result as part of the settings of ``seal-bench run --config``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.measurements.search import Trial

EXAMPLES = """examples:
  seal-bench tune --env SEAL-SQuAD-SmolLM2-135M-v0 -P dataset=dev-v1.1.json --out tuned
  seal-bench tune --env SEAL-SQuAD-v0 -P model=Qwen/Qwen2.5-0.5B-Instruct -P dataset=almanac --tasks 48 --out tuned
  seal-bench tune --env SEAL-SQuAD-v0 --learning-rates 3e-3,1e-2 --epochs 3,6 --batch-sizes 1,2 --ranks 8 --out tuned
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", required=True, help="id of a SEAL environment with passages")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the search")
    parser.add_argument(
        "-P", dest="options", metavar="KEY=VALUE", action="append", default=[], help="a keyword of the environment, as YAML"
    )
    parser.add_argument("--tasks", type=int, default=36, help="validation tasks (default: %(default)s)")
    parser.add_argument("--learning-rates", type=_list(float), default=[5e-4, 1e-3, 2e-3], metavar="LIST")
    parser.add_argument("--epochs", type=_list(int), default=[3, 5, 10], metavar="LIST")
    parser.add_argument("--batch-sizes", type=_list(int), default=[1, 2], metavar="LIST", help="sequences a step; 0: all")
    parser.add_argument("--ranks", type=_list(int), default=[8, 16, 32], metavar="LIST")
    parser.add_argument(
        "--targets", type=_list(_targets), default=["all-linear", ["q_proj", "v_proj"]], metavar="LIST",
        help="adapted layers: all-linear, or names joined by '+' (default: all-linear,q_proj+v_proj)",
    )  # fmt: skip
    parser.add_argument("--temperatures", type=_list(float), default=[0.7, 1.0], metavar="LIST")
    parser.add_argument("--default-temperature", type=float, default=0.7, help="in the first two steps (default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--edit-tokens", type=int, default=128, help="maximum tokens per edit (default: %(default)s)")
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="accuracy that is given up for speed (default: %(default)s, one point)"
    )
    parser.add_argument("--num-envs", type=int, default=12, help="edits that are scored together (default: %(default)s)")


def run(arguments: argparse.Namespace) -> Trial:
    """Search as the arguments of ``seal-bench tune`` say; returns the chosen setting."""
    from benchmarks.measurements.search import run_search

    return run_search(arguments)


def _list(convert: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def comma_separated_list(text: str) -> list[Any]:  # errors show this name
        return [convert(part) for part in text.split(",")]

    return comma_separated_list


def _targets(text: str) -> str | list[str]:
    return text.split("+") if "+" in text else text
