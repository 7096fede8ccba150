"""Stages ``speed-...``: seconds per self-edit of one model and one kind of adapter, for the student and a plain PEFT loop.

Edits have SEAL's lengths; each adapter is trained and generates five answers of a fixed length, and a policy writes edits of a
fixed length. There is no end token, and every update must end ``trained`` with all its tokens, so that all work is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from agents import Policy
from benchmarks.gpu.profiling import busy_seconds
from benchmarks.gpu.suite import Check, Context, check
from benchmarks.measurements.peak import peak_rate, timed
from benchmarks.measurements.reference import PeftLoop
from benchmarks.measurements.timings import peak_memory_mib, reset_peak_memory, training_operations
from benchmarks.measurements.workload import edit_lengths, make_prompts, make_updates
from seal_env.student import FitStatus, Student
from seal_env.update import TokenExample, Update, UpdateConfig

ADAPTERS: dict[str, dict[str, Any]] = {
    "q_proj v_proj r=32": {"r": 32, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"]},
    "all-linear r=16": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
}
REPEATS = 3


@dataclass(frozen=True)
class Sizes:
    """The sizes of a measurement.

    Attributes:
        slots: adapters at once, and number of edits, if it is at least ``fewest``.
        fewest: number of edits of the PEFT loop.
        questions: answers an edit.
        new_tokens: of an answer.
        written: tokens of a self-edit.
        epochs: of an update.
        lengths: as in ``seal-bench speed``.
    """

    slots: tuple[int, ...] = (32, 64, 8, 1, 128)  # in order of importance
    fewest: int = 2
    questions: int = 5
    new_tokens: int = 64
    written: int = 256
    epochs: int = 10
    lengths: str = "seal"


_TINY = Sizes((2, 1), fewest=2, questions=2, new_tokens=3, written=4, epochs=1, lengths="uniform:4-12")


def speed(
    model: str, adapter: str, bars: Callable[[list[dict[str, Any]]], list[Check]] = lambda timings: []
) -> Callable[[Context], dict[str, Any]]:
    """Create the stage for a model (``shape:NAME`` or a folder) and one of :data:`ADAPTERS`; ``bars`` checks its timings."""

    def run(context: Context) -> dict[str, Any]:
        bench = _Bench(context, model, LoraConfig(**ADAPTERS[adapter]))
        timings = bench.measure()
        return {
            "model": model,
            "adapter": adapter,
            "operations_per_edit": statistics.mean(bench.operations),
            "peak_rate": bench.rate,
            "peak_kind": bench.rate_kind,
            "left_out": bench.left_out,
            "timings": timings,
            "checks": [] if context.tiny else bars(timings),
        }

    return run


def bars_7b(timings: list[dict[str, Any]]) -> list[Check]:
    """35 % of the measured matrix product in fit, and 0.7 s an edit for fit and answers, at 32 or more slots."""
    many = [timing for timing in timings if timing["slots"] >= 32]
    if not many:
        return [check("measured at 32 or more slots", 0, least=1)]
    return [
        check("fit: share of the measured bf16 product", max(timing["peak_share"] for timing in many), least=0.35),
        check("fit and answers: seconds an edit", min(timing["fit_answer"] for timing in many), most=0.7),
    ]


def bars_half_b(timings: list[dict[str, Any]]) -> list[Check]:
    """Ten edits a second."""
    return [check("edits a second", max((timing["edits_per_second"] for timing in timings), default=0.0), least=10)]


class _Bench:
    def __init__(self, context: Context, name: str, lora: LoraConfig) -> None:
        self.context, self.lora, self.sizes = context, lora, _TINY if context.tiny else Sizes()
        self.model, self.tokenizer = context.model(name)
        self.device = context.device
        self.rate, self.rate_kind = peak_rate(self.device, self.model.dtype)
        edits = max(self.sizes.slots)
        lengths = edit_lengths(self.sizes.lengths, edits, seed=0)
        self.updates = make_updates(lengths, self.model.config.vocab_size, {"epochs": self.sizes.epochs})
        self.prompts, self.prompt_ids = make_prompts(
            edits, self.sizes.questions, lambda text: list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        )
        self.student = Student(self.model, self.tokenizer, lora)
        self.operations = [training_operations(self.model, self.student.adapter_size, update) for update in self.updates]
        self.left_out: list[str] = []
        self.fresh, self.starting = self.student.zero(0), 0.0

    def measure(self) -> list[dict[str, Any]]:
        """Timings in order of importance, as many as time allows; the others are listed in :attr:`left_out`."""
        timings: list[dict[str, Any]] = []
        per_edit = 0.0  # of the previous measurement of the student
        for slots in (self.sizes.slots[0], 0, *self.sizes.slots[1:]):  # 0: the PEFT loop
            edits = max(self.sizes.fewest, slots)
            expected = (10 if slots < 8 else 1.5) * per_edit * edits  # few at once are slower
            method = f"ours, {slots} slots" if slots else "peft"
            if self.context.left < expected or self.context.left <= 0:
                self.left_out.append(f"{method}: {max(0.0, self.context.left):.0f} s left, about {expected:.0f} needed")
                continue
            timings.append(self._ours(slots, edits) if slots else self._peft(edits))
            per_edit = timings[-1]["fit_answer"] if slots else per_edit
            seconds = ", ".join(f"{name} {timings[-1].get(name) or 0:.3f}" for name in ("fit", "answer", "write"))
            print(f"  {method}: {seconds} s an edit", flush=True)
        return timings

    def _ours(self, slots: int, edits: int) -> dict[str, Any]:
        student, updates = self.student, self.updates[:edits]
        student.max_slots = slots
        start = self._start(edits)
        student.fit([_one_step(update) for update in updates[:slots]], start[:slots])  # warm-up
        reset_peak_memory(self.device)
        seconds, result = timed(self.device, lambda: student.fit(updates, start))
        fits, answers, adapters = [seconds], list[float](), result.adapters
        while self._again(fits):
            seconds, result = timed(self.device, lambda: student.fit(updates, start))
            fits.append(seconds)
        for update, report in zip(updates, result.reports):
            tokens = _tokens(update)
            if report.status is not FitStatus.TRAINED or report.tokens != tokens:
                raise RuntimeError(
                    f"an update of {tokens} tokens ended {report.status} after {report.tokens}: it cannot be timed"
                )
        student.answer(adapters[:1], self.prompt_ids[:1], max_new_tokens=2)
        while self._again(answers):
            answers.append(self._answer(adapters))
        timing = self._record(f"ours, {slots} slots", slots, updates, fits, answers)
        timing |= {"start": self.starting, "slots_used": result.slots, "step_tokens": result.step_tokens}
        timing["useful_share"] = result.useful_tokens / result.padded_tokens
        timing["waiting"] = self._waiting(updates[:slots], start[:slots])
        if slots in self.sizes.slots[:2] and self.context.left > 10 * answers[-1]:
            student.network.static_decoding = True  # it becomes the default if it is faster here
            try:
                timing["answer_static"] = self._answer(adapters) / edits
            finally:
                student.network.static_decoding = False
            timing["write"] = self._write(edits)
        return timing

    def _answer(self, adapters: Tensor) -> float:
        """Seconds for all answers of these adapters."""
        prompts = self.prompt_ids[: len(adapters)]
        seconds, answers = timed(
            self.device, lambda: self.student.answer(adapters, prompts, max_new_tokens=self.sizes.new_tokens)
        )
        lengths = [len(answer.ids) for group in answers for answer in group]
        _check_lengths(lengths, len(adapters) * self.sizes.questions, self.sizes.new_tokens)
        return seconds

    def _start(self, edits: int) -> Tensor:
        """Fresh adapters ``(edits, adapter_size)``, which are cached, and seconds for one in :attr:`starting`."""
        if (have := len(self.fresh)) < edits:
            started = time.perf_counter()
            more = self.student.fresh([update.seed for update in self.updates[have:edits]])
            self.starting = (time.perf_counter() - started) / len(more)
            self.fresh = torch.cat([self.fresh, more])
        return self.fresh[:edits]

    def _again(self, seconds: Sequence[float]) -> bool:
        return not seconds or (len(seconds) < REPEATS and 8 * seconds[-1] < self.context.left)

    def _peft(self, edits: int) -> dict[str, Any]:
        loop, updates = PeftLoop(self.model, self.lora), self.updates[:edits]
        try:
            start = self._start(edits)
            loop.fit(_one_step(updates[0]), start[0])
            reset_peak_memory(self.device)
            seconds, adapters = timed(self.device, lambda: loop.fit_all(updates, start))
            answering, answers = timed(self.device, lambda: loop.answer_all(adapters, self.prompt_ids, self.sizes.new_tokens))
            _check_lengths(
                [len(ids) for group in answers for ids in group], edits * self.sizes.questions, self.sizes.new_tokens
            )
        finally:
            loop.peft.unload()
            self.model.eval().requires_grad_(False)
        return self._record("peft", 0, updates, [seconds], [answering])

    def _record(
        self, method: str, slots: int, updates: Sequence[Update], fits: Sequence[float], answers: Sequence[float]
    ) -> dict[str, Any]:
        fit, answer = statistics.median(fits), statistics.median(answers)
        tokens = sum(map(_tokens, updates))
        return {
            "method": method,
            "slots": slots,
            "edits": len(updates),
            "repeats": [len(fits), len(answers)],
            "fit": fit / len(updates),
            "answer": answer / len(updates),
            "fit_answer": (fit + answer) / len(updates),
            "edits_per_second": len(updates) / (fit + answer),
            "tokens_per_second": tokens / fit,
            "peak_share": sum(self.operations[: len(updates)]) / fit / self.rate,
            "peak_gib": peak_memory_mib(self.device) / 1024,
            "all_trained": True,  # otherwise an error was raised
            "answer_tokens": self.sizes.new_tokens,
        }

    def _write(self, edits: int) -> float:
        """Seconds per edit to write ``edits`` edits together, with the policy's adapter and SEAL's sampling."""
        policy = Policy(self.model, self.tokenizer, max_new_tokens=self.sizes.written, template="base")
        instructions = [f"Passage {i}: {'the story of it ' * 12}\nImplications:\n" for i in range(edits)]
        seeds = list(range(edits))
        policy.sample(instructions[:1], seeds[:1])
        seconds, completions = timed(self.device, lambda: policy.sample(instructions, seeds))
        _check_lengths([len(completion.ids) for completion in completions], edits, self.sizes.written)
        return seconds / edits

    def _waiting(self, updates: list[Update], start: Tensor) -> float | None:
        """Share of the training time in which no kernel runs; None on the CPU.

        It is the difference of a long and a short call, without what a call does only once.
        """
        seconds, busy = [], []
        for examples in (2, 6):
            some = [Update(update.examples[:examples], UpdateConfig(epochs=1), seed=update.seed) for update in updates]
            seconds.append(timed(self.device, lambda: self.student.fit(some, start))[0])  # noqa: B023 (called at once)
            busy.append(busy_seconds(self.device, lambda: self.student.fit(some, start)))  # noqa: B023
        if busy[0] is None or busy[1] is None or seconds[1] <= seconds[0]:
            return None
        return max(0.0, 1 - (busy[1] - busy[0]) / (seconds[1] - seconds[0]))


def _one_step(update: Update) -> Update:
    return Update(update.examples[:1], UpdateConfig(epochs=1), seed=update.seed)


def _tokens(update: Update) -> int:
    """Tokens read in training, over all epochs."""
    return update.config.epochs * sum(len(example.ids) for example in update.examples if isinstance(example, TokenExample))


def _check_lengths(lengths: Sequence[int], count: int, tokens: int) -> None:
    """Raise an error if the texts do not have the measured length."""
    if list(lengths) != [tokens] * count:
        raise RuntimeError(f"expected {count} texts of {tokens} tokens, got {len(lengths)} of lengths {sorted(set(lengths))}")
