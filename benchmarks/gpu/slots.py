"""Stage ``memory``: how many adapters fit, and whether one more leads to smaller batches and a log line, and not to an error.

It would take minutes to fill a large GPU, as adapters come from the host. Therefore PyTorch gets a limit on memory beside the
model, the largest number of adapters within the limit is searched, and the number for the whole GPU is computed from it.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from peft import LoraConfig

from benchmarks.gpu.limited import limited_memory
from benchmarks.gpu.suite import Context, check
from seal_env.student import FitResult, FitStatus, Student
from seal_env.student.memory import available_bytes
from seal_env.update import TokenExample, Update, UpdateConfig

_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
# Relative to the change by training. In bfloat16 batches round differently; a state that is not restored has a larger error.
_ROUNDING = 0.1
_STATE = 12  # bytes per parameter of an adapter in training: its weight and AdamW's two moments


def memory(model: str) -> Any:
    """Create the stage for one model."""

    def run(context: Context) -> dict[str, Any]:
        base, tokenizer = context.model(model)
        student = Student(base, tokenizer, LoraConfig(**_LORA))
        bench = _Bench(context, student)
        free = available_bytes(context.device)
        largest = bench.largest()
        below, _ = bench.fit(max(1, largest))
        above, lines = bench.fit(largest + 1)
        adapter_bytes = bench.room / (largest + 1)
        figures = {
            "free GiB beside the model": free / 2**30,
            "limit of this measurement, GiB": bench.room / 2**30,
            "largest number of slots within the limit": largest,
            "with it: tokens a step": below.step_tokens,
            "one more: slots used": above.slots,
            "one more: tokens a step": above.step_tokens,
            "one more: lines in the log": len(lines),
            "one more: the line": lines[0] if lines else "",
            "slots that would fit into all that is free, at the least, computed": int(free / adapter_bytes),
            "slots that the student takes by itself": student._slots_that_fit(),
            "tokens a step that the student takes by itself": student._step_tokens_that_fit(),
        }
        trained = [report.status for report in above.reports].count(FitStatus.TRAINED)
        return {
            "model": model,
            "figures": figures,
            "checks": [
                check("one slot too many: updates trained", trained / len(above.reports), least=1),
                check("one slot too many: slots used", above.slots, most=largest),
                check("one slot too many: lines in the log", abs(len(lines) - 1), most=0),
                check("slots that fit", largest, least=1),
                check("adapters of smaller parts against all together", bench.difference(above), most=_ROUNDING),
            ],
        }

    return run


class _Bench:
    def __init__(self, context: Context, student: Student) -> None:
        self.context, self.student = context, student
        size = student.adapter_size
        at_most = 4 if context.tiny else 12
        self.most = 3 * at_most
        host = 4 * size * self.most * (context.device.type == "cpu")  # the results, if they are in the same memory
        self.room = int(_STATE * size * at_most + host + (8 << 20 if context.tiny else 3 << 30))
        examples = (TokenExample(tuple(range(2, 34))),)
        self.updates = [Update(examples, UpdateConfig(epochs=2, learning_rate=1e-4), seed=i) for i in range(self.most)]
        self.start = student.fresh([update.seed for update in self.updates])
        student.fit(self.updates[:1], self.start[:1])  # workspaces of libraries are allocated once, before the limit

    def fit(self, slots: int) -> tuple[FitResult, list[str]]:
        """Fit ``slots`` updates with as many slots within the limit; also the log lines about memory that ran out."""
        lines = _Lines()
        logger = logging.getLogger("seal_env.student.fit")
        logger.addHandler(lines)
        self.student.max_slots = slots
        try:
            self.student.network.release()
            with limited_memory(self.context.device, self.room):
                result = self.student.fit(self.updates[:slots], self.start[:slots])
        finally:
            logger.removeHandler(lines)
            self.student.max_slots = None
        return result, lines.texts

    def largest(self) -> int:
        """The largest number of adapters that are in training at once, also with smaller batches, by bisection."""
        fits, too_many = 0, self.most + 1
        while too_many - fits > 1 and (not fits or self.context.left > 0):
            middle = (fits + too_many) // 2
            result, _ = self.fit(middle)
            fits, too_many = (middle, too_many) if result.slots == middle else (fits, middle)
        return fits

    def difference(self, result: FitResult) -> float:
        """The greatest relative difference, in L2 norm, to adapters that were trained without a limit."""
        count = len(result.reports)
        self.student.max_slots = count
        expected = self.student.fit(self.updates[:count], self.start[:count]).adapters
        self.student.max_slots = None
        moved = (expected - self.start[:count]).norm(dim=1)
        return ((result.adapters - expected).norm(dim=1) / moved.clamp(min=torch.finfo().tiny)).max().item()


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "memory ran out" in record.getMessage():
            self.texts.append(record.getMessage())
