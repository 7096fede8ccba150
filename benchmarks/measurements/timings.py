"""What ``seal-bench speed`` does: time the inner loop of several methods on one workload, and measure their errors."""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import peft
import torch
import transformers
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.measurements.peak import peak_rate, timed
from benchmarks.measurements.reference import Float64Loop, PeftLoop, TrainerLoop, TunedLoop, VmapLoop, relative_errors
from benchmarks.measurements.shapes import byte_tokenizer, random_model, shape_config
from benchmarks.measurements.workload import edit_lengths, make_prompts, make_updates
from benchmarks.reports.report_tables import aligned
from seal_env.files import write_json
from seal_env.student import Student, load_base
from seal_env.student.loading import check_device, check_dtype
from seal_env.student.memory import available_bytes
from seal_env.update import TokenExample, Update


@dataclass
class Timing:
    """The figures of one method, medians over the repeats.

    Attributes:
        fit: training time in seconds per edit.
        answer: answering time in seconds per edit; NaN where the method cannot answer.
        tokens_per_second: useful training tokens over training time.
        useful_share: training tokens that are not padding.
        peak_share: useful floating-point operations per second of training over the peak of the machine (``peak.py``).
        peak_mib: peak memory in MiB (resident set on the CPU, allocated on CUDA).
        errors: L2 distance of each measured adapter from the float64 one, over the norm of the float64 one.
        error_ratios: ``errors`` over those of the plain PEFT loop.
    """

    method: str
    fit: float
    answer: float
    tokens_per_second: float
    useful_share: float
    peak_share: float
    peak_mib: float
    errors: list[float]
    error_ratios: list[float]

    @property
    def total(self) -> float:
        """Seconds per edit; NaN where the method cannot answer."""
        return self.fit + self.answer


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        name: in the table.
        fit: trains updates; returns adapters ``(updates, adapter_size)`` and the share of tokens that were not padding.
        answer: answers all prompts with such adapters; None where the method cannot answer.
    """

    name: str
    fit: Callable[[list[Update]], tuple[Tensor, float]]
    answer: Callable[[Tensor], object] | None


class Run(NamedTuple):
    """One timed run of a method: seconds of all edits, and what :class:`Timing` holds."""

    fit: float
    answer: float
    useful_share: float
    peak_mib: float
    adapters: Tensor


def measure(arguments: argparse.Namespace) -> list[Timing]:
    """Measure as the arguments of ``seal-bench speed`` say, print a table, and write ``--json`` and ``--plot``.

    Raises:
        ValueError: an argument cannot work; the message names it.
    """
    check_device(arguments.device)
    check_dtype(arguments.dtype)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    benchmark = SpeedBenchmark(arguments)
    print(
        f"{arguments.model}: {benchmark.parameters / 1e6:.1f} M parameters, adapters of {benchmark.adapter_size:,};"
        f" {benchmark.summary}"
    )
    timings = benchmark.measure()
    print(_table(timings))
    if arguments.json:
        _write_record(arguments, benchmark, timings)
    if arguments.plot:
        _plot(timings, arguments.plot, f"{arguments.model}, {arguments.device}, {arguments.dtype}")
    return timings


class SpeedBenchmark:
    """The workload, the methods, and the clock."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        targets = arguments.targets
        modules = None if targets == "default" else targets if targets == "all-linear" else targets.split(",")
        self.lora = LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=modules)
        if arguments.model.startswith("shape:"):
            dtype = check_dtype(arguments.dtype)
            self.model, self.tokenizer = random_model(shape_config(arguments.model), arguments.device, dtype), byte_tokenizer()
        else:
            self.model, self.tokenizer = load_base(arguments.model, arguments.device, arguments.dtype)
        lengths = edit_lengths(arguments.lengths, arguments.edits, arguments.seed)
        settings: dict[str, object] = {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate}
        self.updates = make_updates(lengths, self.model.config.vocab_size, settings)
        self.prompts, self.prompt_ids = make_prompts(
            arguments.edits, arguments.questions, lambda text: self.tokenizer(text)["input_ids"]
        )
        student = Student(self.model, self.tokenizer, self.lora)
        self.adapter_size = student.adapter_size
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.start = student.fresh([update.seed for update in self.updates])
        flat = [n for edit in lengths for n in edit]
        self.tokens = arguments.epochs * sum(flat)
        self.operations = sum(training_operations(self.model, self.adapter_size, update) for update in self.updates)
        self.summary = (
            f"{len(lengths)} edits, {len(flat) / len(lengths):.1f} sequences each of median {statistics.median(flat):.0f},"
            f" mean {statistics.mean(flat):.0f}, longest {max(flat)} tokens, {arguments.epochs} epochs"
        )
        self.peak_rates: list[float] = []

    def measure(self) -> list[Timing]:
        """Run every method ``--repeats`` times, in turns, and summarise."""
        methods = [method for name in self.arguments.methods.split(",") for method in self._methods(name)]
        runs: dict[str, list[Run]] = {method.name: [] for method in methods}
        for repeat in range(self.arguments.repeats):
            rate, source = peak_rate(self.model.device, self.model.dtype)
            self.peak_rates.append(rate)
            for method in methods:
                if repeat == 0:
                    method.fit(self.updates[:1])
                run = self._timed(method)
                runs[method.name].append(run)
                print(
                    f"  {repeat + 1}/{self.arguments.repeats} {method.name}: fit {run.fit:.1f} s, answer {run.answer:.1f} s",
                    flush=True,
                )
        rate = statistics.median(self.peak_rates)
        print(f"peak ({source}): {rate / 1e9:.0f} GFLOP/s")
        errors: dict[str, Tensor] = {}
        if (exact := self._exact()) is not None:
            errors = {name: relative_errors(runs[name][0].adapters[: len(exact)], exact) for name in runs}
        timings = []
        for name in runs:
            fit = statistics.median(run.fit for run in runs[name])
            timings.append(
                Timing(
                    method=name,
                    fit=fit / len(self.updates),
                    answer=statistics.median(run.answer for run in runs[name]) / len(self.updates),
                    tokens_per_second=self.tokens / fit,
                    useful_share=runs[name][0].useful_share,
                    peak_share=self.operations / fit / rate,
                    peak_mib=max(run.peak_mib for run in runs[name]),
                    errors=errors[name].tolist() if errors else [],
                    error_ratios=(errors[name] / errors["peft"]).tolist() if "peft" in errors else [],
                )
            )
        return timings

    def _timed(self, method: Method) -> Run:
        device = self.model.device
        reset_peak_memory(device)
        fit, (adapters, useful_share) = timed(device, lambda: method.fit(self.updates))
        answer = math.nan if (run := method.answer) is None else timed(device, lambda: run(adapters))[0]
        return Run(fit, answer, useful_share, peak_memory_mib(device), adapters)

    def _exact(self) -> Tensor | None:
        """The first ``--exact`` adapters in float64, ``(updates, adapter_size)``; None where they are not measured."""
        if not self.arguments.exact:
            return None
        if 8 * self.parameters > available_bytes(self.model.device) // 2:
            print(f"errors are not measured: in float64 the model takes {8 * self.parameters >> 20:,} MiB")
            return None
        try:
            loop = Float64Loop(copy.deepcopy(self.model), self.lora)
        except ValueError as error:
            print(f"errors are not measured: {error}")
            return None
        return loop.fit_all(self.updates[: self.arguments.exact], self.start.double())

    def _methods(self, name: str) -> Iterator[Method]:
        """The rows of one of ``--methods``: one per number of slots for ``ours``."""
        if name == "ours":
            for slots in self.arguments.slots.split(","):
                yield self._student_method(int(slots))
        elif name == "vmap":
            vmap = VmapLoop(copy.deepcopy(self.model), self.lora)
            yield Method("torch.func.vmap, 16 slots", lambda updates: vmap.fit(updates, self.start), None)
        else:
            loops: dict[str, Callable[[PreTrainedModel, LoraConfig], PeftLoop]] = {
                "trainer": TrainerLoop,
                "peft": PeftLoop,
                "tuned": TunedLoop,
                "tuned-bf16": lambda model, lora: TunedLoop(model, lora, autocast=True),
                "tuned-compile": lambda model, lora: TunedLoop(model, lora, compiled=True),
            }
            loop, new_tokens = loops[name](copy.deepcopy(self.model), self.lora), self.arguments.new_tokens
            yield Method(
                name,
                lambda updates: (loop.fit_all(updates, self.start), 1.0),
                lambda adapters: loop.answer_all(adapters, self.prompt_ids, new_tokens),
            )

    def _student_method(self, slots: int) -> Method:
        student = Student(copy.deepcopy(self.model), self.tokenizer, self.lora, max_slots=slots)

        def fit(updates: list[Update]) -> tuple[Tensor, float]:
            result = student.fit(updates, self.start[: len(updates)])
            return result.adapters, result.useful_tokens / result.padded_tokens

        return Method(
            f"ours, {slots} slot{'' if slots == 1 else 's'}",
            fit,
            lambda adapters: student.answer(adapters, self.prompts, max_new_tokens=self.arguments.new_tokens),
        )


def training_operations(model: PreTrainedModel, adapter_size: int, update: Update) -> float:
    """Floating-point operations that an update needs, without padding.

    Each token is multiplied twice by a frozen weight (forward, and the gradient of its input; the query, key and value of the
    first layer need only the former), three times by an adapter's, and twice by the head where it has a label. Causal attention
    takes half of its square, three times.
    """
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    first = config.hidden_size * (queries + 2 * keys)
    layer = first + queries * config.hidden_size + 3 * config.hidden_size * config.intermediate_size
    total = 0.0
    for example in update.examples:
        n = len(example.ids) if isinstance(example, TokenExample) else 0
        total += n * (4 * config.num_hidden_layers * layer - 2 * first + 6 * adapter_size)
        total += (n - 1) * 4 * config.hidden_size * config.vocab_size
        total += config.num_hidden_layers * 6 * n * n * queries
    return total * update.config.epochs


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of :func:`peak_memory_mib`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: the resident set on the CPU, allocated memory on CUDA; NaN where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def _table(timings: list[Timing]) -> str:
    def seconds(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:.3f}"

    peft_total = next((timing.total for timing in timings if timing.method == "peft"), math.nan)
    head = ("method", "fit s", "answer s", "total s", "vs peft", "tokens/s", "useful", "of peak", "MiB", "error", "vs peft's")
    rows = [head]
    for timing in timings:
        speedup, ratios = peft_total / timing.total, timing.error_ratios
        rows.append(
            (
                timing.method,
                seconds(timing.fit),
                seconds(timing.answer),
                seconds(timing.total),
                "-" if math.isnan(speedup) else f"{speedup:.2f}x",
                f"{timing.tokens_per_second:,.0f}",
                f"{timing.useful_share:.0%}",
                f"{timing.peak_share:.0%}",
                f"{timing.peak_mib:,.0f}",
                f"{statistics.median(timing.errors):.0e}" if timing.errors else "-",
                f"{statistics.median(ratios):.2f}x (most {max(ratios):.2f}x)" if ratios else "-",
            )
        )
    return "\n".join([*aligned(rows), "(seconds per self-edit; errors against float64)"])


def _write_record(arguments: argparse.Namespace, benchmark: SpeedBenchmark, timings: list[Timing]) -> None:
    record = {
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)} | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "workload": benchmark.summary,
        "peak_rates": benchmark.peak_rates,
        "timings": [  # NaN is not JSON
            {name: None if value != value else value for name, value in (asdict(timing) | {"total": timing.total}).items()}
            for timing in timings
        ],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.json, record)


def _plot(timings: list[Timing], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.5 * len(timings) + 1.4), layout="constrained")
    names = [timing.method for timing in timings][::-1]
    fits = [timing.fit for timing in timings][::-1]
    answers = [0.0 if math.isnan(timing.answer) else timing.answer for timing in timings][::-1]
    axes.barh(names, fits, label="fit", color="#3b6fb6")
    axes.barh(names, answers, left=fits, label="answer", color="#e2a03f")
    for row, (fit, answer) in enumerate(zip(fits, answers)):
        axes.text(fit + answer, row, f" {fit + answer:.2f}", va="center")
    axes.set_xlabel("seconds per self-edit")
    axes.set_title(title, loc="left")
    axes.margins(x=0.1)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
