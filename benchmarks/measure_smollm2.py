"""What updates teach SmolLM2-135M: accuracy on validation passages after edits of many kinds, and seconds per edit.

python -m benchmarks.measure_smollm2 --dataset dev-v1.1.json --out effects

Rows are saved as they are done, and the same command continues. ``effects.json`` has all scores, ``table.md`` the table, and
``edits.md`` edits to read. The interval of a row covers other passages.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measurements.effects import Effect, EffectScorer
from benchmarks.measurements.task_scores import percent
from benchmarks.run_directory import add_session
from seal_env.edits import gold_pairs, gold_statements, half_wrong_statements
from seal_env.files import atomic_write, write_json
from seal_env.student import Sampling

ENV = "SEAL-SQuAD-SmolLM2-135M-v0"
FORMATS = ("implications", "implications-long", "implications-very-long", "rewrite", "self-qa", "chain-of-thought", "none")
TEMPERATURES = (0.7, 1.0)
READ = 3  # passages whose edits are written to edits.md


class EffectTable:
    """Rows of a table in a folder; a row that is there is not measured again."""

    def __init__(self, folder: Path, scorer: EffectScorer, edit_tokens: int) -> None:
        self.folder, self.scorer, self.edit_tokens = folder, scorer, edit_tokens
        self.path = folder / "effects.json"
        self.rows: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def measure(self) -> None:
        """Measure all rows that are missing, and write the table and the edits."""
        tasks = self.scorer.tasks
        self.add("passage in view, no update", lambda: ([], self.scorer.open_book()))
        self.add("closed book, no update", lambda: ([], self.scorer.closed_book()))
        self.add("passage only", lambda: ([], self.scorer.passage_only()))
        self.add_edits("gold statements", "implications", lambda: [gold_statements(task) for task in tasks])
        self.add_edits("gold statements, half of them wrong", "implications", lambda: [*map(half_wrong_statements, tasks)])
        self.add_edits("gold question-answer pairs", "self-qa", lambda: [gold_pairs(task) for task in tasks])
        for temperature in TEMPERATURES:
            for edit_format in FORMATS:
                self.add_edits(
                    f"own edits, {edit_format}, temperature {temperature:g}",
                    edit_format,
                    functools.partial(self.scorer.write, edit_format, Sampling(temperature, 1.0), self.edit_tokens),
                )
        with atomic_write(self.folder / "table.md") as partial:
            partial.write_text("\n".join(self.lines()) + "\n", encoding="utf-8")
        with atomic_write(self.folder / "edits.md") as partial:
            partial.write_text("\n".join(self.edits()) + "\n", encoding="utf-8")

    def add_edits(self, name: str, edit_format: str, write: Callable[[], list[str]]) -> None:
        """A row of edits, which ``write`` returns."""

        def effects() -> tuple[list[str], list[Effect]]:
            edits = write()
            self.written = time.perf_counter()
            return edits, self.scorer.effects(edits, edit_format=edit_format)

        self.add(name, effects)

    def add(self, name: str, effects: Callable[[], tuple[list[str], Sequence[Effect] | Sequence[float]]]) -> None:
        """A row, printed and saved when it is done."""
        if name not in self.rows:
            started = self.written = time.perf_counter()
            edits, results = effects()
            count = len(results)
            row: dict[str, Any] = {
                "scores": [result if isinstance(result, float) else result.score for result in results],
                "seconds_to_write": (self.written - started) / count,
                "seconds": (time.perf_counter() - self.written) / count,
                "tokens": sum(result.tokens for result in results if isinstance(result, Effect)) / count,
                "edits": edits[:READ],
                "answers": [_answers(result) for result in results[:READ] if isinstance(result, Effect)],
            }
            self.rows[name] = row
            write_json(self.path, self.rows)
        print(f"{name:<48} {percent(self.rows[name]['scores'])}  {self.rows[name]['seconds']:6.2f} s", flush=True)

    def lines(self) -> list[str]:
        """The table in Markdown."""
        lines = [
            "| edit | accuracy | 95 % interval | trained tokens | s to write | s to train and answer |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name, row in self.rows.items():
            mean, _, interval = percent(row["scores"]).partition(" %")
            cells = [name, f"{mean.strip()} %", interval.strip().strip("[]"), f"{row['tokens']:,.0f}"]
            cells += [f"{row[key]:.2f}" for key in ("seconds_to_write", "seconds")]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def edits(self) -> list[str]:
        """Edits with the answers after each, in Markdown."""
        lines = ["# Edits of SmolLM2-135M, and its answers after each", ""]
        for i, task in enumerate(self.scorer.tasks[:READ]):
            lines += [f"## {task.title}", "", *_quoted(task.context), ""]
            for name, row in self.rows.items():
                if len(row["answers"]) <= i:
                    continue
                lines += [f"### {name}: {100 * row['scores'][i]:.0f} %", ""]
                lines += [*_quoted(row["edits"][i]), ""] if row["edits"] else []
                for question, (answer, correct) in zip(task.questions, row["answers"][i]):
                    text = " ".join(answer.split())[:160]
                    lines.append(f"- {question.question} ({question.answers[0]}): {'right' if correct else 'wrong'}, {text!r}")
                lines.append("")
        return lines


def _answers(effect: Effect) -> list[list[Any]]:
    """The answers after the update, each with its verdict."""
    (result,) = effect.outcome.results
    return [[answer, correct] for answer, correct in zip(result.answers, result.correct)]


def _quoted(text: str) -> list[str]:
    return [f"> {line}" for line in text.strip().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="squad", help="squad (from the hub), or a file with SQuAD's development set")
    parser.add_argument("--passages", type=int, default=60, help="validation passages (default: %(default)s)")
    parser.add_argument("--edit-tokens", type=int, default=128, help="maximum tokens per edit (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    add_session(arguments.out)
    scorer = EffectScorer(ENV, arguments.passages, dataset=arguments.dataset, split="validation")
    EffectTable(arguments.out, scorer, arguments.edit_tokens).measure()


if __name__ == "__main__":
    main()
