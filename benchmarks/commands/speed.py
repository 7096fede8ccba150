"""``seal-bench speed``: seconds per self-edit, the student beside the loops that everybody writes.

Every method trains the same updates from the same initial adapters and answers the same prompts, in one process, the methods
taking turns over the repeats; figures are medians over the repeats. Before it is timed a method is run once on one update.

Exactness is measured against the same updates in float64. Over ten epochs rounding parts two right float32 loops, so what
counts is that the student is no further from float64 than PEFT in float32 is.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.measurements.peak import peak_rate, synchronize
from benchmarks.measurements.reference import Float64Loop, PeftLoop, TrainerLoop, TunedLoop, relative_errors
from benchmarks.measurements.shapes import byte_tokenizer, random_model, shape_config
from benchmarks.measurements.vmap_loop import VmapLoop
from benchmarks.measurements.workload import edit_lengths, make_prompts, make_updates
from seal_env.checks import check_at_least
from seal_env.files import write_json
from seal_env.student import Student, load_base
from seal_env.student.loading import check_device, check_dtype
from seal_env.student.memory import available_bytes
from seal_env.update import TokenExample, Update

EXAMPLES = """examples:
  seal-bench speed --quick
  seal-bench speed --methods peft,ours --slots 1,16 --repeats 5 --json speed.json
"""
METHODS = ("trainer", "peft", "tuned", "tuned-bf16", "tuned-compile", "vmap", "ours")


@dataclass
class Timing:
    """One method's figures, medians over the repeats.

    Attributes:
        fit: seconds per edit spent training.
        answer: seconds per edit spent answering.
        tokens_per_second: useful training tokens over fit time.
        useful_share: training tokens that are not padding.
        peak_share: useful floating-point operations per second in fit over the most that the machine reaches (``peak.py``).
        peak_mib: peak memory, MiB (resident set on the CPU, allocated on CUDA).
        errors: L2 distance of each adapter that was measured from the float64 one, over the latter's norm.
        error_ratios: the same over the plain PEFT loop's.
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="shape:llama-2m", help="shape:NAME (random weights), a folder or a hub id")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the base model: float32 or bfloat16")
    parser.add_argument("--lengths", default="seal", help="seal, uniform:LOW-HIGH, or SEAL's recorded runs (file or folder)")
    parser.add_argument("--edits", type=int, default=64, help="self-edits in the workload")
    parser.add_argument("--slots", default="1,4,16,64", help="adapters at once, for ours")
    parser.add_argument("--methods", default="trainer,peft,tuned,tuned-bf16,vmap,ours", help=f"of {','.join(METHODS)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--questions", type=int, default=5, help="prompts an edit")
    parser.add_argument("--new-tokens", type=int, default=64, help="answer length")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="all-linear", help="all-linear, default (PEFT's) or a comma-separated list")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exact", type=int, default=4, metavar="N", help="measure the error of the first N edits; 0: of none")
    parser.add_argument("--json", type=Path, help="write the figures and how they were made")
    parser.add_argument("--plot", type=Path, help="write a bar chart (PNG)")
    parser.add_argument("--quick", action="store_true", help="a minute instead of half an hour: 16 edits, one repeat, no vmap")


def run(arguments: argparse.Namespace) -> list[Timing]:
    """Measure, print a table, and write what was asked for.

    Raises:
        ValueError: an argument is unusable; it is named.
    """
    if arguments.quick:
        arguments.edits, arguments.repeats = min(arguments.edits, 16), 1
        arguments.slots, arguments.methods = "1,16", "trainer,peft,tuned,ours"
        arguments.exact = min(arguments.exact, 2)
    for name in ("edits", "repeats", "questions", "new_tokens", "rank", "epochs"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    check_at_least("--exact", arguments.exact, 0)
    check_device(arguments.device)
    check_dtype(arguments.dtype)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    bench = _Bench(arguments)
    print(f"{arguments.model}: {bench.parameters / 1e6:.1f} M parameters, adapters of {bench.layout_size:,}; {bench.summary}")
    timings = bench.measure()
    print(_table(timings))
    if arguments.json:
        _write_record(arguments, bench, timings)
    if arguments.plot:
        _plot(timings, arguments.plot, f"{arguments.model}, {arguments.device}, {arguments.dtype}")
    return timings


class _Bench:
    """The workload, the methods, and the clock."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        targets = arguments.targets
        chosen = None if targets == "default" else targets if targets == "all-linear" else targets.split(",")
        self.lora = LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=chosen)
        self.model, self.tokenizer = self._load()
        lengths = edit_lengths(arguments.lengths, arguments.edits, arguments.seed)
        settings: dict[str, object] = {"epochs": arguments.epochs, "learning_rate": arguments.learning_rate}
        vocab_size = self.model.config.vocab_size
        self.updates = make_updates(lengths, vocab_size, settings)
        self.prompts, self.prompt_ids = make_prompts(
            arguments.edits, arguments.questions, lambda text: self.tokenizer(text)["input_ids"]
        )
        student = Student(self.model, self.tokenizer, self.lora)
        self.layout = student.layout
        self.layout_size = student.adapter_size
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.start = student.fresh([update.seed for update in self.updates])
        self.tokens = sum(arguments.epochs * sum(edit) for edit in lengths)
        self.operations = sum(training_operations(self.model, self.layout_size, update) for update in self.updates)
        flat = [n for edit in lengths for n in edit]
        self.summary = (
            f"{len(lengths)} edits, {len(flat) / len(lengths):.1f} sequences each of median {statistics.median(flat):.0f},"
            f" mean {statistics.mean(flat):.0f}, longest {max(flat)} tokens, {arguments.epochs} epochs"
        )
        self.peak_rates: list[float] = []

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        name, device, dtype = self.arguments.model, self.arguments.device, self.arguments.dtype
        if name.startswith("shape:"):
            return random_model(shape_config(name), device, check_dtype(dtype)), byte_tokenizer()
        return load_base(name, device, dtype)

    def measure(self) -> list[Timing]:
        runs = [run for name in self.arguments.methods.split(",") for run in self._runs(name)]
        raw: dict[str, list[tuple[float, float, float, float, Tensor]]] = {name: [] for name, _, _ in runs}
        for repeat in range(self.arguments.repeats):
            rate, how = peak_rate(self.model.device, self.model.dtype)
            self.peak_rates.append(rate)
            for name, fit, answer in runs:
                if repeat == 0:
                    fit(self.updates[:1])
                reset_peak_memory(self.model.device)
                started = time.perf_counter()
                adapters, useful = fit(self.updates)
                synchronize(self.model.device)
                fitted = time.perf_counter()
                if answer is not None:
                    answer(adapters)
                    synchronize(self.model.device)
                seconds = (fitted - started, time.perf_counter() - fitted if answer else math.nan)
                raw[name].append((*seconds, useful, peak_memory_mib(self.model.device), adapters))
                print(
                    f"  {repeat + 1}/{self.arguments.repeats} {name}: fit {seconds[0]:.1f} s, answer {seconds[1]:.1f} s",
                    flush=True,
                )
        rate = statistics.median(self.peak_rates)
        print(f"peak ({how}): {rate / 1e9:.0f} GFLOP/s")
        exact = self._exact()
        errors = {}
        if exact is not None:
            errors = {name: relative_errors(found[0][4][: len(exact)], exact) for name, found in raw.items()}
        timings = []
        for name, _, _ in runs:
            fit_time = statistics.median(r[0] for r in raw[name])
            timings.append(
                Timing(
                    method=name,
                    fit=fit_time / len(self.updates),
                    answer=statistics.median(r[1] for r in raw[name]) / len(self.updates),
                    tokens_per_second=self.tokens / fit_time,
                    useful_share=raw[name][0][2],
                    peak_share=self.operations / fit_time / rate,
                    peak_mib=max(r[3] for r in raw[name]),
                    errors=errors[name].tolist() if errors else [],
                    error_ratios=(errors[name] / errors["peft"]).tolist() if "peft" in errors else [],
                )
            )
        return timings

    def _exact(self) -> Tensor | None:
        """The first adapters in float64, ``(updates, numel)``; None where nobody asked, or the model is none of its models."""
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
        updates = self.updates[: self.arguments.exact]
        return torch.stack([loop.fit(update, start.double()) for update, start in zip(updates, self.start)])

    def _runs(self, method: str) -> list[tuple[str, _Fit, _Answer | None]]:
        """Name, training and answering of each row that ``method`` adds to the table."""
        if method == "ours":
            rows: list[tuple[str, _Fit, _Answer | None]] = []
            for slots in self.arguments.slots.split(","):
                if not slots.isdigit() or int(slots) < 1:
                    raise ValueError(f"--slots takes positive integers separated by commas, got {slots!r}")
                student = Student(copy.deepcopy(self.model), self.tokenizer, self.lora, max_slots=int(slots))
                rows.append(
                    (f"ours, {slots} slot{'' if slots == '1' else 's'}", self._ours(student), self._ours_answer(student))
                )
            return rows
        if method == "vmap":
            vmap = VmapLoop(copy.deepcopy(self.model), self.lora)
            return [("torch.func.vmap, 16 slots", lambda updates: vmap.fit(updates, self.start), None)]
        loops: dict[str, Callable[[PreTrainedModel], PeftLoop]] = {
            "trainer": lambda model: TrainerLoop(model, self.lora),
            "peft": lambda model: PeftLoop(model, self.lora),
            "tuned": lambda model: TunedLoop(model, self.lora),
            "tuned-bf16": lambda model: TunedLoop(model, self.lora, autocast=True),
            "tuned-compile": lambda model: TunedLoop(model, self.lora, compiled=True),
        }
        if method not in loops:
            raise ValueError(f"--methods {method!r}: there are {', '.join(METHODS)}")
        loop = loops[method](copy.deepcopy(self.model))
        return [(method, self._sequential(loop), self._sequential_answer(loop))]

    def _sequential(self, loop: PeftLoop) -> _Fit:
        return lambda updates: (torch.stack([loop.fit(update, row) for update, row in zip(updates, self.start)]), 1.0)

    def _sequential_answer(self, loop: PeftLoop) -> _Answer:
        def answer(adapters: Tensor) -> None:
            for adapter, prompts in zip(adapters, self.prompt_ids):
                loop.load(adapter)
                loop.answer(prompts, self.arguments.new_tokens)

        return answer

    def _ours(self, student: Student) -> _Fit:
        def fit(updates: list[Update]) -> tuple[Tensor, float]:
            result = student.fit(updates, self.start[: len(updates)])
            return result.adapters, result.useful_tokens / result.padded_tokens

        return fit

    def _ours_answer(self, student: Student) -> _Answer:
        return lambda adapters: student.answer(adapters, self.prompts, max_new_tokens=self.arguments.new_tokens)


_Fit = Callable[[list[Update]], tuple[Tensor, float]]
_Answer = Callable[[Tensor], object]


def training_operations(model: PreTrainedModel, adapter_size: int, update: Update) -> float:
    """Floating-point operations that training an update needs, padding left out.

    A frozen weight is multiplied twice a token (forward, and the gradient of its input; the first layer's query, key and
    value need only the former), an adapter's three times, the head twice where a token is learnt, and causal attention
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
    """Let :func:`peak_memory_mib` begin from now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now


def peak_memory_mib(device: torch.device) -> float:
    """Most memory in use, MiB: resident on the CPU, allocated on CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def _figure(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds:.3f}"


def _table(timings: list[Timing]) -> str:
    plain = next((t.total for t in timings if t.method == "peft"), None)
    head = ("method", "fit s", "answer s", "total s", "vs peft", "tokens/s", "useful", "of peak", "MiB", "error", "vs peft's")
    rows = [head]
    for t in timings:
        rows.append(
            (
                t.method,
                f"{t.fit:.3f}",
                _figure(t.answer),
                _figure(t.total),
                f"{plain / t.total:.2f}x" if plain and not math.isnan(t.total) else "-",
                f"{t.tokens_per_second:,.0f}",
                f"{t.useful_share:.0%}",
                f"{t.peak_share:.0%}",
                f"{t.peak_mib:,.0f}",
                f"{statistics.median(t.errors):.0e}" if t.errors else "-",
                f"{statistics.median(t.error_ratios):.2f}x (most {max(t.error_ratios):.2f}x)" if t.error_ratios else "-",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "(seconds per self-edit; errors against float64)"])


def _write_record(arguments: argparse.Namespace, bench: _Bench, timings: list[Timing]) -> None:
    record = {
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)} | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "workload": bench.summary,
        "peak_rates": bench.peak_rates,
        "timings": [
            {name: None if value != value else value for name, value in (asdict(t) | {"total": t.total}).items()}
            for t in timings
        ],
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.json, record)


def _plot(timings: list[Timing], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.5 * len(timings) + 1.4), layout="constrained")
    names = [t.method for t in timings][::-1]
    fits = [t.fit for t in timings][::-1]
    answers = [0.0 if math.isnan(t.answer) else t.answer for t in timings][::-1]
    axes.barh(names, fits, label="fit", color="#3b6fb6")
    axes.barh(names, answers, left=fits, label="answer", color="#e2a03f")
    for i, (f, a) in enumerate(zip(fits, answers)):
        axes.text(f + a, i, f" {f + a:.2f}", va="center")
    axes.set_xlabel("seconds per self-edit")
    axes.set_title(title, loc="left")
    axes.margins(x=0.1)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
