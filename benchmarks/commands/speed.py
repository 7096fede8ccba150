"""``seal-bench speed``: seconds per self-edit of the student and of the training loops that are usually written.

Every method trains the same updates from the same initial adapters and answers the same prompts, in one process. The methods
take turns over the repeats, and figures are medians over the repeats. Each method is run once on one update before it is timed.

Exactness is the distance from the same update in float64. Rounding separates two correct float32 loops over ten epochs, so the
student is compared with what PEFT itself reaches in float32.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from seal_env.checks import check_at_least, check_choice

if TYPE_CHECKING:
    from benchmarks.measurements.timings import Timing

EXAMPLES = """examples:
  seal-bench speed --quick
  seal-bench speed --methods peft,ours --slots 1,16 --repeats 5 --json speed.json
"""
METHODS = ("trainer", "peft", "tuned", "tuned-bf16", "tuned-compile", "vmap", "ours")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="shape:llama-2m", help="shape:NAME (random weights), a folder or a hub id")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the base model: float32 or bfloat16")
    parser.add_argument("--lengths", default="seal", help="seal, uniform:LOW-HIGH, or SEAL's recorded runs (file or folder)")
    parser.add_argument("--edits", type=int, default=64, help="self-edits in the workload")
    parser.add_argument("--slots", default="1,4,16,64", help="numbers of adapters trained at once, for ours")
    parser.add_argument(
        "--methods", default="trainer,peft,tuned,tuned-bf16,vmap,ours", help=f"comma-separated: {','.join(METHODS)}"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--questions", type=int, default=5, help="prompts per edit")
    parser.add_argument("--new-tokens", type=int, default=64, help="answer length")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="all-linear", help="all-linear, default (PEFT's) or a comma-separated list")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exact", type=int, default=4, metavar="N", help="measure the error of the first N edits (0: skip)")
    parser.add_argument("--json", type=Path, help="write the figures and how they were made")
    parser.add_argument("--plot", type=Path, help="write a bar chart (PNG)")
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour: 16 edits, one repeat, no vmap")


def run(arguments: argparse.Namespace) -> list[Timing]:
    """Measure, print a table, and write ``--json`` and ``--plot``.

    Raises:
        ValueError: an argument cannot work; the message names it.
    """
    if arguments.quick:
        arguments.edits, arguments.repeats = min(arguments.edits, 16), 1
        arguments.slots, arguments.methods = "1,16", "trainer,peft,tuned,ours"
        arguments.exact = min(arguments.exact, 2)
    for name in ("edits", "repeats", "questions", "new_tokens", "rank", "epochs"):
        check_at_least(f"--{name.replace('_', '-')}", getattr(arguments, name), 1)
    check_at_least("--exact", arguments.exact, 0)
    for method in arguments.methods.split(","):
        check_choice("--methods", method, METHODS)
    for slots in arguments.slots.split(","):
        if not slots.isdigit() or int(slots) < 1:
            raise ValueError(f"--slots takes positive integers separated by commas, got {slots!r}")
    if arguments.plot:
        importlib.import_module("matplotlib")  # fails before half an hour of measuring, not after

    from benchmarks.measurements.timings import measure

    return measure(arguments)
