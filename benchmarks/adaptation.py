"""What ``seal-bench adapt`` does: sample self-edits for documents, train the student on all of them, and save the adapter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents import Policy
from agents.callbacks import append_lines
from agents.saved import base_of, open_policy
from agents.seeding import task_seeds
from benchmarks.environments import env_keywords
from benchmarks.settings import check_counts, policy_options, tree_of
from seal_env.checks import check_at_least, check_names
from seal_env.domains import from_keywords
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.edits import ParsedEdit, get_format, parse
from seal_env.files import atomic_folder
from seal_env.student import FitStatus, Student
from seal_env.tasks import Document, load_tasks
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS, is_questions, read_passages, visible_files

_OPTIONS = ("device", "dtype", "trust_remote_code", "template", "enable_thinking", "lora", "inner_loop", "progress")
_MAX_NAMED = 5  # documents that an error names
_ADVICE = {
    FitStatus.OUT_OF_VOCABULARY: "a passage or an edit holds a token without an embedding; use the tokenizer of the model",
    FitStatus.DIVERGED: "take a smaller learning rate, such as -P inner_loop.learning_rate=1e-4",
}


@dataclass(frozen=True)
class WrittenEdit:
    """A self-edit for a document, as text and as the training sequences that it was parsed into."""

    document: Document
    text: str
    parsed: ParsedEdit


def run(arguments: argparse.Namespace) -> Path:
    """Write the edits, train the student on them and save the adapter, as the arguments of ``seal-bench adapt`` say.

    Returns:
        The folder of the adapter.

    Raises:
        ValueError: an argument cannot work, or nothing could be learned; nothing is written then.
    """
    check_counts(arguments, "edits_per_document", "edit_tokens", "passage_words")
    check_at_least("--seed", arguments.seed, 0)
    out: Path = arguments.out
    _check_out(out, arguments.overwrite)
    config = _make_config(arguments)
    documents = read_documents(arguments.documents, arguments.split, arguments.passage_words)
    policy = _make_policy(arguments, config)
    config = replace(config, template=policy.template)  # resolves "auto"
    _check_lengths(documents, policy, config, arguments.passage_words)
    edits = write_edits(policy, config, documents, arguments.edits_per_document, arguments.seed)
    del policy  # frees its memory before the student is loaded
    student = Student.from_pretrained(
        config.model, config.lora_config(), device=config.device, dtype=config.dtype, trust_remote_code=config.trust_remote_code
    )
    # Each passage is trained on once, however many edits were written about it.
    sequences = tuple(dict.fromkeys(sequence for edit in edits for sequence in edit.parsed.sequences))
    settings = config.settings()
    fitted = student.fit([settings.update(sequences, arguments.seed)], progress=config.progress)
    report = fitted.reports[0]
    if not report.status.learnt:
        advice = _ADVICE.get(report.status, "no edit had any text to learn; try another --seed, --edit-format or --policy")
        raise ValueError(f"the update ended as {report.status}: {advice}")
    with atomic_folder(out) as partial:
        student.save_adapter(fitted.adapters[0], partial)
        append_lines(partial / "edits.jsonl", [_line(edit) for edit in edits])
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
    tasks = load_tasks(source, split, passage_words=passage_words)
    if tasks.size is None:
        raise ValueError(f"{source!r} never ends: name documents of your own")
    return [tasks.document(i) for i in range(tasks.size)]


def write_edits(
    policy: Policy, config: KnowledgeConfig, documents: Sequence[Document], edits_per_document: int, seed: int
) -> list[WrittenEdit]:
    """Sample edits for each document; an edit depends on policy, document, seed and its number, not on the other edits."""
    edit_format, settings = get_format(config.edit_format), config.settings()
    repeated = [document for document in documents for _ in range(edits_per_document)]
    seeds = task_seeds(seed, [i for i in range(len(documents)) for _ in range(edits_per_document)], "adapt")
    completions = policy.sample([edit_format.prompt(document, policy.template) for document in repeated], seeds)
    texts = [completion.text for completion in completions]
    return [WrittenEdit(document, text, parse(text, document, settings, seed)) for document, text in zip(repeated, texts)]


def _make_policy(arguments: argparse.Namespace, config: KnowledgeConfig) -> Policy:
    """The policy of ``--policy``, or the untrained student."""
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


def _line(edit: WrittenEdit) -> dict[str, Any]:
    document = edit.document
    return {
        "title": document.title,
        "id": document.id,
        "context": document.context,
        "edit": edit.text,
        "status": str(edit.parsed.status),
    }
