"""``seal-bench replay``: what SEAL's authors recorded, put through this project's code, beside what they published.

Tasks come from the loader, prompts from the edit formats, training sequences from the parser, kept edits from ReST-EM's
selection, and scores from the recorded verdicts or, with ``--grader``, from graders in place of the authors' GPT-4.1. No model
is run. Rows whose files are missing are left out, and the files are named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.replay.accuracy import continual, evaluation, joint, proxies, training
from benchmarks.replay.grading import grade_again, parse_graders
from benchmarks.replay.recordings import read
from benchmarks.replay.replay_tables import Section, markdown, text
from benchmarks.replay.reproduction import selection, sequences, tasks
from seal_env.files import atomic_write

EXAMPLES = """examples:
  seal-bench replay ../shared/data/seal_runs
  seal-bench replay ../shared/data/seal_runs --grader exact,contains --out replay.md
  seal-bench replay runs --grader mine:judge --grader-options strict=true --squad squad_val.json
"""
_KEY = (
    "published: in the paper (arXiv 2506.10943), or in a description of its runs; recorded: the authors' own summary of a run, "
    "or, beside a grader's figure, GPT-4.1's; ours: computed from edits, answers and verdicts. Accuracies are in percent and "
    "means over passages; ± one standard error over passages, [95 % bootstrap interval over passages]"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUNS", type=Path, help="folder with the authors' train, eval, selection, continual")
    parser.add_argument(
        "--grader",
        metavar="NAMES",
        default="",
        help="graders in place of GPT-4.1, separated by commas: exact, package.module:name, ...",
    )
    parser.add_argument(
        "--grader-options",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a keyword of the grader, as YAML; with several graders, NAME.KEY=VALUE for one of them",
    )
    parser.add_argument("--squad", type=Path, metavar="FILE", help="squad_val.json; by default RUNS/../squad/squad_val.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables as Markdown")


def run(arguments: argparse.Namespace) -> list[Section]:
    """Read the recordings, compute the sections, print them and, with ``--out``, write them.

    Raises:
        ValueError: an argument cannot be used, the folder holds none of the runs, or a file is broken; the message names it.
    """
    graders = parse_graders(arguments.grader, arguments.grader_options)
    recordings = read(arguments.runs)
    squad = arguments.squad or arguments.runs / ".." / "squad" / "squad_val.json"
    verdicts = grade_again(recordings, graders)
    computed = (
        evaluation(recordings, verdicts),
        joint(recordings, verdicts),
        training(recordings),
        proxies(recordings),
        selection(recordings),
        sequences(recordings),
        tasks(recordings, squad, required=arguments.squad is not None),
        continual(recordings),
    )
    sections = [section for section in computed if section.rows or section.notes]
    notes = [_KEY]
    if recordings.missing:
        notes.append(f"not in {arguments.runs}, rows that need them are left out: {', '.join(recordings.missing)}")
    print(text(sections, notes))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.out) as partial:
            partial.write_text(markdown(sections, notes), encoding="utf-8")
    return sections
