"""What `seal-nano` can and cannot do: ``python -m benchmarks.measure_nano [--model FOLDER]``.

On test articles of the Almanac, whose entities the model never saw: open-book and closed-book accuracy, and closed-book
accuracy after an update on the passage alone, on the untrained policy's edits in each format, on the best of k of them (chosen
by one score and scored again with new seeds), and on the oracle's facts and pairs, also with half of the facts wrong. Intervals
are 95 %, by bootstrap over articles.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurements.task_scores import TaskScorer, print_row
from benchmarks.training.nano_corpus import FORMATS
from seal_env.edits import get_format, pairs_text, parse, passage_only
from seal_env.files import write_json
from seal_env.presets import NANO_LORA, model_preset
from seal_env.student import Sampling
from seal_env.tasks import Task
from seal_env.tasks.almanac import Almanac, Article, Names

MAX_EDIT_TOKENS = 256
PRESET = model_preset("seal-nano")
INNER_LOOP = {name: getattr(PRESET.settings.update_config, name) for name in ("batch_size", "epochs", "learning_rate")}
OTHER_LORAS: tuple[dict[str, object], ...] = (
    {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    {"r": 8, "lora_alpha": 16, "target_modules": ["gate_proj", "up_proj", "down_proj"]},
    {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
)
GRID = [
    {"batch_size": batch_size, "epochs": epochs, "learning_rate": learning_rate}
    for batch_size in (0, 1, 2)
    for epochs in (4, 6)
    for learning_rate in (5e-3, 1e-2, 2e-2)
]


class NanoBenchmark(TaskScorer):
    """Articles of the Almanac, and a student that is updated on edits about them and answers questions.

    Args:
        articles: how many, from the first of ``split``.
        model: bundled name or folder.
        lora: options of the adapter.
        inner_loop: options of the update.
    """

    def __init__(
        self,
        articles: int,
        split: str = "test",
        model: str = "seal-nano",
        lora: Mapping[str, object] = NANO_LORA,
        inner_loop: Mapping[str, Any] = INNER_LOOP,
    ) -> None:
        options = {"model": model, "lora": dict(lora), "inner_loop": dict(inner_loop), "grader": "exact"}
        super().__init__("SEAL-SQuAD-v0", max_new_tokens=PRESET.answer_tokens, **options)
        self.settings = self.config.settings()
        almanac = Almanac()
        self.articles = [almanac.article(split, i) for i in range(articles)]
        self.tasks = [article.task for article in self.articles]

    def sample_edits(self, edit_format: str, tasks: Sequence[Task], k: int, seed: int) -> list[list[str]]:
        """``k`` edits of the untrained policy for each task, sampled as SEAL does: temperature 1, top-p 0.95."""
        prompts = [get_format(edit_format).prompt(task) for task in tasks for _ in range(k)]
        (completions,) = self.student.sample(
            self.student.zero(1),
            [prompts],
            seeds=[[seed * 1_000_000 + i for i in range(len(prompts))]],
            sampling=Sampling(1.0, 0.95),
            max_new_tokens=MAX_EDIT_TOKENS,
        )
        texts = [completion.text for completion in completions]
        return [texts[i : i + k] for i in range(0, len(texts), k)]

    def score_edits(self, edit_format: str, tasks: Sequence[Task], edits: Sequence[str], seed: int) -> list[float]:
        """The score of each task after the update on its edit."""
        settings = replace(self.settings, format=edit_format)
        return self.score(
            tasks, [parse(edit, task, settings, seed * 10_000 + i) for i, (edit, task) in enumerate(zip(edits, tasks))]
        )

    def open_book(self) -> list[float]:
        """Accuracy with the passage in the prompt, without an update."""
        return self.score_open_book(self.tasks)

    def closed_book(self) -> list[float]:
        """Accuracy without the passage, without an update."""
        return self.score(self.tasks, [parse("", task, self.settings, 0) for task in self.tasks])

    def passage_only(self) -> list[float]:
        """Accuracy after the update on the passage alone."""
        return self.score(self.tasks, [passage_only(task, self.settings, i) for i, task in enumerate(self.tasks)])

    def written(self, edit_format: str, write: Callable[[Article], str]) -> list[float]:
        """Accuracy after the update on the edits that ``write`` returns."""
        return self.score_edits(edit_format, self.tasks, [write(article) for article in self.articles], seed=1)

    def sampled(self, edit_format: str, k: int) -> tuple[list[float], list[float]]:
        """Per article: the mean score of ``k`` sampled edits, and the score of the best of them with a new seed."""
        edits = self.sample_edits(edit_format, self.tasks, k, seed=0)
        repeated = [task for task in self.tasks for _ in range(k)]
        flat = [text for texts in edits for text in texts]
        scores = np.reshape(self.score_edits(edit_format, repeated, flat, seed=2), (-1, k))
        best = [texts[i] for texts, i in zip(edits, scores.argmax(1))]
        return scores.mean(1).tolist(), self.score_edits(edit_format, self.tasks, best, seed=3)


def facts_edit(article: Article) -> str:
    """The oracle's facts, one a line."""
    return "\n".join(article.oracle_facts())


def pairs_edit(article: Article) -> str:
    """The oracle's question-answer pairs in the form of a `self-qa` edit."""
    return pairs_text(article.oracle_pairs())


def wrong_facts(article: Article, share: float = 0.5) -> str:
    """Plain facts, the first ``share`` of which are wrong."""
    rng = random.Random(f"{article.seed}/wrong")
    lines = []
    for i, fact in enumerate(article.facts):
        while i < share * len(article.facts):
            value = fact.relation.draw(rng, Names("test"))
            if value.text != fact.value:
                fact = fact.with_value(value)
                break
        lines.append(fact.statement(rng.randrange(1000)))
    return "\n".join(lines)


def measure(benchmark: NanoBenchmark, k: int) -> dict[str, object]:
    """All rows, printed as they are done: accuracy in percent with its interval."""
    rows: dict[str, object] = {}

    def add(name: str, scores: Sequence[float]) -> None:
        accuracy = print_row(name, scores)
        rows[name] = {"mean": 100 * accuracy.value, "interval": [100 * (accuracy.low or 0.0), 100 * (accuracy.high or 0.0)]}

    print(f"{len(benchmark.tasks)} test articles, {sum(len(task.questions) for task in benchmark.tasks)} questions")
    add("open book", benchmark.open_book())
    add("closed book, no update", benchmark.closed_book())
    add("passage only", benchmark.passage_only())
    for edit_format in FORMATS:
        means, best = benchmark.sampled(edit_format, k)
        add(f"untrained policy, {edit_format}", means)
        add(f"best of {k}, {edit_format}, scored again", best)
    add("oracle facts, half of them wrong", benchmark.written("implications", wrong_facts))
    add("oracle facts", benchmark.written("implications", facts_edit))
    add("oracle pairs", benchmark.written("self-qa", pairs_edit))
    return rows


def measure_seconds(benchmark: NanoBenchmark, passages: int = 48, k: int = 5) -> dict[str, float]:
    """Seconds to write, and to fit and evaluate, ``passages * k`` edits."""
    tasks = benchmark.tasks[:passages]
    started = time.perf_counter()
    edits = benchmark.sample_edits("implications", tasks, k, seed=1)
    sampled = time.perf_counter()
    repeated, flat = [task for task in tasks for _ in range(k)], [text for texts in edits for text in texts]
    benchmark.score_edits("implications", repeated, flat, seed=4)
    ended = time.perf_counter()
    return {
        "write": sampled - started,
        "fit and evaluate": ended - sampled,
        f"{passages * k} edits in all": ended - started,
    }


def search(model: str, articles: int) -> list[dict[str, object]]:
    """Accuracy on validation articles, and seconds per edit, of one setting after another; rows are printed as they are done.

    All of ``GRID`` with the default adapter, then other adapters with the default settings.
    """
    records: list[dict[str, object]] = []
    print(f"{'adapter':<20} {'batch':>5} {'epochs':>6} {'lr':>6} {'passage':>8} {'facts':>6} {'pairs':>6} {'s/edit':>7}")
    for lora, point in [(NANO_LORA, point) for point in GRID] + [(lora, INNER_LOOP) for lora in OTHER_LORAS]:
        benchmark = NanoBenchmark(articles, "validation", model, lora, point)
        passage = 100 * float(np.mean(benchmark.passage_only()))
        started = time.perf_counter()
        facts = 100 * float(np.mean(benchmark.written("implications", facts_edit)))
        pairs = 100 * float(np.mean(benchmark.written("self-qa", pairs_edit)))
        seconds = (time.perf_counter() - started) / 2 / articles
        targets = lora["target_modules"]
        modules = targets if isinstance(targets, str) else "+".join(name.split("_")[0] for name in targets)
        adapter = f"r={lora['r']} {modules}"
        print(
            f"{adapter:<20} {point['batch_size'] or 'all':>5} {point['epochs']:>6} {point['learning_rate']:>6}"
            f" {passage:>8.1f} {facts:>6.1f} {pairs:>6.1f} {seconds:>7.3f}",
            flush=True,
        )
        accuracy = {"passage": passage, "facts": facts, "pairs": pairs}
        records.append({"lora": lora, **point, **accuracy, "seconds_per_edit": seconds})
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="seal-nano", help="bundled name or folder")
    parser.add_argument("--articles", type=int, default=200)
    parser.add_argument("--k", type=int, default=5, help="sampled edits per article")
    parser.add_argument(
        "--search", action="store_true", help="instead: accuracy and cost of inner-loop settings, on validation articles"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.search:
        record: object = search(arguments.model, arguments.articles)
    else:
        benchmark = NanoBenchmark(arguments.articles, model=arguments.model)
        accuracy, seconds = measure(benchmark, arguments.k), measure_seconds(benchmark)
        print(", ".join(f"{name}: {value:.1f} s" for name, value in seconds.items()))
        record = {"accuracy": accuracy, "articles": arguments.articles, "seconds": seconds}
    if arguments.json:
        write_json(arguments.json, record)


if __name__ == "__main__":
    main()
