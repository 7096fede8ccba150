"""``seal-bench adapt``: write self-edits for your own documents and train one adapter on all of them.

The adapter is a PEFT checkpoint for the student's base model. ``edits.jsonl`` in its folder holds every edit with its passage.
A policy only writes the edits; the student that is trained is the base model itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS
from seal_env.tasks.tables import TABLES

EXAMPLES = """examples:
  seal-bench adapt notes --out notes-adapter
  seal-bench adapt notes --policy runs/first/runs/rest_em/seed-0/policy --out notes-adapter
  seal-bench adapt handbook.md --model Qwen/Qwen2.5-7B -P device=cuda -P dtype=bfloat16 --edits-per-document 5 --out handbook
  seal-bench adapt reports --passage-words 150 --edit-tokens 512 --out reports-adapter
  seal-bench adapt articles.jsonl --edit-format self-qa -P inner_loop.epochs=3 --out articles-adapter --overwrite

in Python:
  PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODEL), "notes-adapter")
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join((*DOCUMENTS, ".json", *TABLES))
    parser.add_argument("documents", help=f"a folder, a file ({kinds}), or a hub id")
    parser.add_argument(
        "--policy", metavar="DIR", help="the policy that writes, as seal-bench eval takes it (default: the untrained student)"
    )
    parser.add_argument("--out", type=Path, metavar="ADAPTER", required=True, help="folder of the adapter")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing adapter")
    parser.add_argument(
        "--env",
        default="SEAL-SQuAD-v0",
        help="SEAL environment whose model, edit format and inner loop are the defaults (default: %(default)s)",
    )
    parser.add_argument("--model", metavar="NAME", help="the student (default: the policy's base, or the environment's model)")
    parser.add_argument("--edit-format", help="see seal-bench list formats (default: the environment's)")
    parser.add_argument("--edits-per-document", type=int, default=1, metavar="K")
    parser.add_argument("--edit-tokens", type=int, help="maximum tokens per edit (default: as the policy was saved, or 256)")
    parser.add_argument(
        "--passage-words",
        type=int,
        default=PASSAGE_WORDS,
        metavar="N",
        help="cut longer documents into passages of about N words (default: %(default)s)",
    )
    parser.add_argument("--split", default="train", help="split of a dataset (default: %(default)s)")
    parser.add_argument(
        "-P",
        dest="options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="device, dtype, template, enable_thinking, lora, inner_loop, ... as for an environment; YAML, dots go down",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of edits and update (default: %(default)s)")


def run(arguments: argparse.Namespace) -> Path:
    """See :func:`benchmarks.adaptation.run`."""
    from benchmarks import adaptation

    return adaptation.run(arguments)
