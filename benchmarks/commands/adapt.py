"""``seal-bench adapt``: self-edits for documents of your own, one joint update on all of them, and the adapter it made.

The adapter is a PEFT checkpoint over the student's base, which plain ``peft`` loads; ``edits.jsonl`` in its folder holds what
was written, a line an edit, with the passage. The student is the base as it is: a policy writes for it, and stays apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from agents import Policy
from agents.callbacks import append_lines
from agents.saved import base_of, open_policy
from agents.seeding import task_seeds
from benchmarks.settings import check_counts, policy_options, tree_of
from seal_env.checks import check_at_least, check_names
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.edits import ParsedEdit, get_format, parse
from seal_env.files import atomic_folder
from seal_env.student import FitStatus, Student
from seal_env.tasks import Document, load_tasks
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, is_questions, read_passages, visible_files
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

_NAMED = 5  # documents that an error names


@dataclass(frozen=True)
class Written:
    """One self-edit and what it came to."""

    document: Document
    edit: str
    parsed: ParsedEdit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join((*DOCUMENTS, ".json", *TABLES))
    parser.add_argument("documents", help=f"a folder, a file ({kinds}), or a hub id")
    parser.add_argument(
        "--policy", metavar="DIR", help="who writes, as seal-bench eval takes it; the untrained student if left out"
    )
    parser.add_argument("--out", type=Path, metavar="ADAPTER", required=True, help="folder of the adapter")
    parser.add_argument("--overwrite", action="store_true", help="replace an adapter that is there already")
    parser.add_argument("--model", metavar="NAME", help="the student; by default the policy's base, or seal-nano")
    parser.add_argument("--edit-format", help="how an edit is asked for, see seal-bench list formats; default implications")
    parser.add_argument("--edits-per-document", type=int, default=1, metavar="K")
    parser.add_argument("--edit-tokens", type=int, help="most tokens of an edit; by default as the policy was saved, or 256")
    parser.add_argument(
        "--passage-words",
        type=int,
        default=PASSAGE_WORDS,
        metavar="N",
        help="cut documents that are longer into passages of about N words; default %(default)s",
    )
    parser.add_argument("--split", default="train", help="of a data set that has several")
    parser.add_argument(
        "-P",
        dest="options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="device, dtype, template, enable_thinking, lora, inner_loop, ... as for an environment; YAML, dots go down",
    )
    parser.add_argument("--seed", type=int, default=0, help="of edits and update")


def run(arguments: argparse.Namespace) -> Path:
    """Write the edits, update the student on them, and save; returns the adapter's folder.

    Raises:
        ValueError: an argument is unusable, or nothing could be learnt; nothing is written then.
    """
    check_counts(arguments, "edits_per_document", "edit_tokens", "passage_words")
    check_at_least("--seed", arguments.seed, 0)
    _check_out(arguments.out, arguments.overwrite)
    config = _config(arguments)
    documents = read(arguments.documents, arguments.split, arguments.passage_words)
    policy = _policy(arguments, config)
    config = replace(config, template=policy.template)  # "auto" is what the policy is
    _check_lengths(documents, policy, config, arguments.passage_words)
    written = write(policy, config, documents, arguments.edits_per_document, arguments.seed)
    del policy  # before the student is loaded
    student = Student.from_pretrained(
        config.model, config.lora_config(), device=config.device, dtype=config.dtype, trust_remote_code=config.trust_remote_code
    )
    # A passage is learnt once, however many edits were written about it.
    sequences = tuple(dict.fromkeys(sequence for one in written for sequence in one.parsed.sequences))
    fitted = student.fit([config.settings().update(sequences, arguments.seed)], progress=config.progress)
    report = fitted.reports[0]
    if not report.status.learnt:
        raise ValueError(f"the update ended as {report.status}: {_what_to_do(report.status)}")
    with atomic_folder(arguments.out) as new:
        student.save_adapter(fitted.adapters[0], new)
        append_lines(new / "edits.jsonl", [_line(one) for one in written])
    cut = ", some cut to the longest that can be learnt" if report.status is FitStatus.TRUNCATED else ""
    losses = np.array(report.losses).reshape(config.settings().update_config.epochs, -1).mean(1)
    print(
        f"{arguments.out}: {len(documents)} passages, {len(written)} edits, {report.sequences} sequences{cut},"
        f" {report.steps} steps, loss {losses[0]:.2f} to {losses[-1]:.2f} nats a token"
    )
    return cast(Path, arguments.out)


def read(documents: str, split: str = "train", passage_words: int = PASSAGE_WORDS) -> list[Document]:
    """The passages of a folder, a file or a data set, with questions or without.

    Raises:
        ValueError: there are none, or they never end.
    """
    path = Path(documents).expanduser()
    # Where some documents have questions, load_tasks leaves out the others: here all are read.
    asked_about = path.is_dir() and any(map(is_questions, visible_files(path)))
    if asked_about or (path.is_file() and path.suffix.lower() in DOCUMENTS):
        return [document for passages in read_passages(path, passage_words).values() for document in passages]
    source = load_tasks(documents, split, **({"passage_words": passage_words} if path.exists() else {}))
    if source.size is None:
        raise ValueError(f"{documents!r} never ends: name documents of your own")
    return [source.document(i) for i in range(source.size)]


def write(policy: Policy, config: KnowledgeConfig, documents: Sequence[Document], each: int, seed: int) -> list[Written]:
    """``each`` edits of each document, side by side; each depends on seed, document, number and policy alone."""
    edit_format, edit_settings = get_format(config.edit_format), config.settings()
    repeated = [document for document in documents for _ in range(each)]
    seeds = task_seeds(seed, [i for i in range(len(documents)) for _ in range(each)], "adapt")
    written = policy.sample([edit_format.prompt(document, policy.template) for document in repeated], seeds)
    return [
        Written(document, one.text, parse(one.text, document, edit_settings, seed)) for document, one in zip(repeated, written)
    ]


def _policy(arguments: argparse.Namespace, config: KnowledgeConfig) -> Policy:
    """What writes the edits: the policy that was named, or the student's base."""
    inherited = policy_options(config)
    if arguments.edit_tokens is not None:
        inherited["max_new_tokens"] = arguments.edit_tokens
    if arguments.policy:
        return open_policy(arguments.policy, base_of(arguments.policy) or config.model, **inherited)
    return Policy.from_pretrained(config.model, **inherited)


def _check_lengths(documents: Sequence[Document], policy: Policy, config: KnowledgeConfig, passage_words: int) -> None:
    """Raise a ValueError that names the documents whose prompt and edit are more than the policy reads."""
    edit_format, tokens = get_format(config.edit_format), policy.max_new_tokens
    lengths = {document: len(policy.prompt_ids(edit_format.prompt(document, policy.template))) for document in documents}
    too_long = [document for document, length in lengths.items() if length + tokens > policy.max_length]
    if too_long:
        names = [f"{document.id!r} ({document.title[:40]!r}, {lengths[document]} tokens)" for document in too_long[:_NAMED]]
        more = " and more" if len(too_long) > _NAMED else ""
        raise ValueError(
            f"{len(too_long)} of {len(lengths)} prompts leave no room for an edit of {tokens} tokens, as the model reads"
            f" {policy.max_length}: document {', '.join(names)}{more}. Lower --passage-words (of .txt and Markdown; it is"
            f" {passage_words}) or --edit-tokens, or take a model that reads more"
        )


def _config(arguments: argparse.Namespace) -> KnowledgeConfig:
    """The environment's configuration, for what it says of student, edits and inner loop."""
    options: dict[str, Any] = tree_of(arguments.options)
    known = ("device", "dtype", "trust_remote_code", "template", "enable_thinking", "lora", "inner_loop", "progress")
    check_names("-P", options, list(known))
    if arguments.edit_format:
        options["edit_format"] = arguments.edit_format
    model = arguments.model or (base_of(arguments.policy) if arguments.policy else "seal-nano")
    if model is None:
        raise ValueError(f"{arguments.policy} names no base: say --model, the student that the edits are for")
    return KnowledgeConfig(**options, model=model)


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise ValueError(f"--out {out} is there already: say --overwrite to replace it, or choose another name")
    if not (out / "adapter_config.json").is_file():
        raise ValueError(f"--out {out} is no adapter, and --overwrite replaces nothing else: choose another name")


def _what_to_do(status: FitStatus) -> str:
    if status is FitStatus.OUT_OF_VOCABULARY:
        return "a passage or an edit holds a token that the model has no embedding for; take a tokenizer that fits the model"
    if status is FitStatus.DIVERGED:
        return "take a smaller learning rate, such as -P inner_loop.learning_rate=1e-4"
    return "no edit had any text to learn; another --seed, --edit-format or --policy may write some"


def _line(one: Written) -> dict[str, Any]:
    document = one.document
    return {
        "title": document.title,
        "id": document.id,
        "context": document.context,
        "edit": one.edit,
        "status": str(one.parsed.status),
    }
