"""``seal-bench adapt``: write self-edits for your own documents and train one adapter on all of them.

The adapter is a PEFT checkpoint for the student's base model. ``edits.jsonl`` in its folder holds every edit with its passage.
A policy only writes the edits; the student that is trained is the base model itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seal_env.checks import check_at_least, check_names
from seal_env.edits import ParsedEdit, get_format, parse
from seal_env.files import atomic_folder
from seal_env.tasks import Document, load_tasks
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, is_questions, read_passages, visible_files
from seal_env.tasks.tables import TABLES

if TYPE_CHECKING:
    from agents import Policy
    from seal_env.domains.knowledge import KnowledgeConfig

EXAMPLES = """examples:
  seal-bench adapt notes --out notes-adapter
  seal-bench adapt notes --policy runs/first/runs/rest_em/seed-0/policy --out notes-adapter
  seal-bench adapt handbook.md --model Qwen/Qwen2.5-7B -P device=cuda -P dtype=bfloat16 --edits-per-document 5 --out handbook
  seal-bench adapt reports --passage-words 150 --edit-tokens 512 --out reports-adapter
  seal-bench adapt articles.jsonl --edit-format self-qa -P inner_loop.epochs=3 --out articles-adapter --overwrite

in Python:
  PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODEL), "notes-adapter")
"""
_OPTIONS = ("device", "dtype", "trust_remote_code", "template", "enable_thinking", "lora", "inner_loop", "progress")
_MAX_NAMED = 5  # documents that an error names


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
    """Write the edits, train the student on them and save the adapter, as the arguments of ``seal-bench adapt`` say.

    Returns:
        The folder of the adapter.

    Raises:
        ValueError: an argument cannot work, or nothing could be learned; nothing is written then.
    """
    from agents.callbacks import append_lines
    from benchmarks.settings import check_counts
    from seal_env.student import FitStatus, Student

    check_counts(arguments, "edits_per_document", "edit_tokens", "passage_words")
    check_at_least("--seed", arguments.seed, 0)
    out: Path = arguments.out
    _check_out(out, arguments.overwrite)
    config = _make_config(arguments)
    documents = read_documents(arguments.documents, arguments.split, arguments.passage_words)
    policy = _make_policy(arguments, config)
    config = replace(config, template=policy.template)  # resolves "auto"
    _check_lengths(documents, policy, config, arguments.passage_words)
    edits = _write_edits(policy, config, documents, arguments.edits_per_document, arguments.seed)
    del policy  # frees its memory before the student is loaded
    student = Student.from_pretrained(
        config.model, config.lora_config(), device=config.device, dtype=config.dtype, trust_remote_code=config.trust_remote_code
    )
    # Each passage is trained on once, however many edits were written about it.
    sequences = tuple(dict.fromkeys(sequence for *_, parsed in edits for sequence in parsed.sequences))
    settings = config.settings()
    fitted = student.fit([settings.update(sequences, arguments.seed)], progress=config.progress)
    report = fitted.reports[0]
    if not report.status.learnt:
        advice = "no edit had any text to learn; try another --seed, --edit-format or --policy"
        if report.status is FitStatus.OUT_OF_VOCABULARY:
            advice = "a passage or an edit holds a token without an embedding; use the tokenizer of the model"
        elif report.status is FitStatus.DIVERGED:
            advice = "take a smaller learning rate, such as -P inner_loop.learning_rate=1e-4"
        raise ValueError(f"the update ended as {report.status}: {advice}")
    with atomic_folder(out) as partial:
        student.save_adapter(fitted.adapters[0], partial)
        lines = [
            {"title": each.title, "id": each.id, "context": each.context, "edit": text, "status": str(parsed.status)}
            for each, text, parsed in edits
        ]
        append_lines(partial / "edits.jsonl", lines)
    truncated = ", some truncated to the maximum length" if report.status is FitStatus.TRUNCATED else ""
    losses = np.array(report.losses).reshape(settings.update_config.epochs, -1).mean(1)
    print(
        f"{out}: {len(documents)} passages, {len(edits)} edits, {report.sequences} sequences{truncated},"
        f" {report.steps} steps, loss {losses[0]:.2f} to {losses[-1]:.2f} nats per token"
    )
    return out


def read_documents(source: str, split: str = "train", passage_words: int = PASSAGE_WORDS) -> list[Document]:
    """The passages of a folder, a file or a dataset, with or without questions.

    Raises:
        ValueError: there are no passages, or infinitely many.
    """
    path = Path(source).expanduser()
    # load_tasks skips documents without questions where others have some; here all of them are read.
    has_questions = path.is_dir() and any(map(is_questions, visible_files(path)))
    if has_questions or (path.is_file() and path.suffix.lower() in DOCUMENTS):
        return [document for passages in read_passages(path, passage_words).values() for document in passages]
    options: dict[str, Any] = {"passage_words": passage_words} if path.exists() else {}
    tasks = load_tasks(source, split, **options)
    if tasks.size is None:
        raise ValueError(f"{source!r} never ends: name documents of your own")
    return [tasks.document(i) for i in range(tasks.size)]


def _write_edits(
    policy: Policy, config: KnowledgeConfig, documents: Sequence[Document], edits_per_document: int, seed: int
) -> list[tuple[Document, str, ParsedEdit]]:
    """Sample edits for each document, as text and parsed; an edit depends on policy, document, seed and its number only."""
    from agents.seeding import task_seeds

    edit_format, settings = get_format(config.edit_format), config.settings()
    repeated = [document for document in documents for _ in range(edits_per_document)]
    seeds = task_seeds(seed, [i for i in range(len(documents)) for _ in range(edits_per_document)], "adapt")
    completions = policy.sample([edit_format.prompt(document, policy.template) for document in repeated], seeds)
    return [(document, c.text, parse(c.text, document, settings, seed)) for document, c in zip(repeated, completions)]


def _make_policy(arguments: argparse.Namespace, config: KnowledgeConfig) -> Policy:
    """The policy of ``--policy``, or the untrained student."""
    from agents import Policy
    from agents.saved import base_of, open_policy
    from benchmarks.settings import policy_options

    options = policy_options(config)
    if arguments.edit_tokens is not None:
        options["max_new_tokens"] = arguments.edit_tokens
    if arguments.policy:
        return open_policy(arguments.policy, base_of(arguments.policy) or config.model, **options)
    return Policy.from_pretrained(config.model, **options)


def _check_lengths(documents: Sequence[Document], policy: Policy, config: KnowledgeConfig, passage_words: int) -> None:
    """Raise a ValueError that names the documents whose prompt and edit do not fit into the policy's context."""
    edit_format, tokens = get_format(config.edit_format), policy.max_new_tokens
    lengths = {document: len(policy.prompt_ids(edit_format.prompt(document, policy.template))) for document in documents}
    too_long = [document for document, length in lengths.items() if length + tokens > policy.max_length]
    if too_long:
        names = [f"{document.id!r} ({document.title[:40]!r}, {lengths[document]} tokens)" for document in too_long[:_MAX_NAMED]]
        more = " and more" if len(too_long) > _MAX_NAMED else ""
        raise ValueError(
            f"{len(too_long)} of {len(lengths)} prompts leave no room for an edit of {tokens} tokens, as the model reads"
            f" {policy.max_length}: document {', '.join(names)}{more}. Lower --passage-words (of .txt and Markdown; it is"
            f" {passage_words}) or --edit-tokens, or take a model that reads more"
        )


def _make_config(arguments: argparse.Namespace) -> KnowledgeConfig:
    """The environment's configuration of student, edits and inner loop, with the arguments in place of its defaults."""
    from agents.saved import base_of
    from benchmarks.settings import env_keywords, tree_of
    from seal_env.domains import from_keywords
    from seal_env.domains.knowledge import KnowledgeConfig

    options: dict[str, Any] = tree_of(arguments.options)
    check_names("-P", options, list(_OPTIONS))
    if arguments.edit_format:
        options["edit_format"] = arguments.edit_format
    model = arguments.model or (base_of(arguments.policy) if arguments.policy else None)
    if arguments.policy and model is None:
        raise ValueError(f"{arguments.policy} names no base: give --model, the student that the edits are for")
    if model:
        options["model"] = model
    config = from_keywords({**env_keywords(arguments.env), **options})
    if not isinstance(config, KnowledgeConfig):
        raise ValueError(f"--env {arguments.env} has domain={config.domain!r}: documents need domain='knowledge'")
    return config


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise ValueError(f"--out {out} exists: give --overwrite to replace it, or another name")
    if not (out / "adapter_config.json").is_file():
        raise ValueError(f"--out {out} is no adapter, and --overwrite replaces nothing else: give another name")
