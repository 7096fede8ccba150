"""Stage ``profile``: kernel launches, synchronizations and copies of one training step and one decoding step.

The difference of two calls with different numbers of steps is measured, without what a call does only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.suite import Context
from benchmarks.measurements.peak import synchronize, timed
from seal_env.student import Student
from seal_env.update import TokenExample, Update, UpdateConfig

_LORA = {"r": 32, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"]}
_DEAREST = 10
# Prefixes of events of CUDA's runtime and of ATen.
_COUNTED = {
    "launches": ("cudaLaunchKernel", "cuLaunchKernel"),  # and their Ex and ExC variants
    "synchronisations": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    "aten::item": ("aten::_local_scalar_dense",),
    "aten::nonzero": ("aten::nonzero",),
    "copies to host": ("Memcpy DtoH",),
    "copies to device": ("Memcpy HtoD",),
}


@dataclass(frozen=True)
class _Window:
    """A profile: seconds by kernel, number of events by name, wall-clock seconds, and the profiler's own table."""

    kernels: Counter[str]
    events: Counter[str]
    seconds: float
    table: str

    def count(self, *prefixes: str) -> int:
        return sum(number for name, number in self.events.items() if name.startswith(prefixes))


def profile_model(model: str) -> Callable[[Context], dict[str, Any]]:
    """Create the stage for one model."""

    def run(context: Context) -> dict[str, Any]:
        base, tokenizer = context.model(model)
        slots, length = (2, 8) if context.tiny else (32, 48)
        student = Student(base, tokenizer, LoraConfig(**_LORA), max_slots=slots)
        start = student.fresh(list(range(slots)))
        prompt = [2 + i % 200 for i in range(length)]
        prompts = [[prompt] * 5] * slots

        def fit(steps: int) -> None:
            examples = [TokenExample(tuple(prompt))] * steps
            student.fit([Update(tuple(examples), UpdateConfig(epochs=1), seed=i) for i in range(slots)], start)

        def answer(steps: int) -> None:
            student.answer(start, prompts, max_new_tokens=steps)

        short, long = (1, 2) if context.tiny else (2, 6)
        figures: dict[str, Any] = {}
        text = []
        for name, call in (("fit", fit), ("decode", answer)):
            call(short)
            before, after = (_profiled(context.device, lambda: call(steps)) for steps in (short, long))  # noqa: B023 (called at once)
            figures |= {f"{name}: {key}": value for key, value in _per_step(before, after, long - short).items()}
            text.append(f"{name}, {long} steps\n\n{after.table}")
        file = context.out / f"profile-{model.removeprefix('shape:').replace('/', '-').replace('.', '_')[-60:]}.txt"
        file.write_text("\n\n".join(text) + "\n")
        return {"model": model, "slots": slots, "rows_decoded": 5 * slots, "figures": figures, "file": file.name}

    return run


def _per_step(short: _Window, long: _Window, steps: int) -> dict[str, Any]:
    kernels = long.kernels - short.kernels or long.kernels
    busy = sum(kernels.values())
    dearest = {name[:120]: round(seconds / busy, 4) for name, seconds in kernels.most_common(_DEAREST)} if busy else {}
    counts = {name: (long.count(*names) - short.count(*names)) / steps for name, names in _COUNTED.items()}
    return {
        "milliseconds a step": 1e3 * (long.seconds - short.seconds) / steps,
        "busy milliseconds a step": 1e3 * busy / steps,
        **{f"{name} a step": number for name, number in counts.items()},
        "dearest kernels": dearest,
    }


def _profiled(device: torch.device, run: Callable[[], object]) -> _Window:
    """Profile ``run``; on the CPU, operations are counted in place of kernels."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    seconds, _ = timed(device, run)
    with profile(activities=activities) as profiler:
        run()
        synchronize(device)
    averages = profiler.key_averages()
    kernels: Counter[str] = Counter()
    for event in averages:
        if cuda == (event.device_type == DeviceType.CUDA):
            kernels[event.key] += (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
    events = Counter({event.key: event.count for event in averages})
    table = averages.table(sort_by="self_device_time_total" if cuda else "self_cpu_time_total", row_limit=40)
    return _Window(kernels, events, seconds, table)


def busy_seconds(device: torch.device, run: Callable[[], object]) -> float | None:
    """Seconds in which the kernels of ``run`` are running, which has to take a few seconds at most.

    None on the CPU, and if the profiler cannot see kernels.
    """
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        synchronize(device)
    return sum(e.self_device_time_total for e in profiler.key_averages() if e.device_type == DeviceType.CUDA) / 1e6 or None
