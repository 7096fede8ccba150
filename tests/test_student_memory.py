"""If memory runs out, the student continues with less of it, and the results are the same."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

from benchmarks.gpu.limited import LimitedMemory
from seal_env import Student, TokenExample, Update, UpdateConfig
from seal_env.student import FitStatus, memory
from seal_env.student.generic import GenericNetwork
from seal_env.student.llama import LlamaNetwork

LORA = {
    "r": 128,
    "lora_alpha": 256,  # adapters are larger than all other tensors of a step
    "target_modules": "all-linear",
}
NETWORKS = {LlamaNetwork: "llama", GenericNetwork: "generic"}
MIB = 1 << 20


def updates(count: int = 6) -> list[Update]:
    rng = random.Random(0)
    lengths = [[rng.randint(5, 60) for _ in range(3)] for _ in range(count)]
    examples = [[TokenExample(tuple(rng.randrange(2, 258) for _ in range(n))) for n in own] for own in lengths]
    return [Update(own, UpdateConfig(epochs=2, learning_rate=2e-4), seed=i) for i, own in enumerate(examples)]


@pytest.fixture(params=[("llama", "llama", "0"), ("llama", "llama", "1"), ("qwen2", "generic", "0")], ids=str)
def student(request, model_path, monkeypatch) -> Student:
    model, network, compiled = request.param
    monkeypatch.setenv("SEAL_ENV_NATIVE", compiled)
    return Student.from_pretrained(model_path(model), LoraConfig(**LORA), network=network)


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "memory ran out" in record.getMessage()]


def test_files_in_the_page_cache_are_available_memory(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  1000 kB\nMemAvailable:  5000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes(cpu) == 5000 << 10
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{3000 << 10}\n")
    assert memory.available_bytes(cpu) == 5000 << 10
    (tmp_path / "memory.max").write_text(f"{4000 << 10}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {500 << 10}\n")
    assert memory.available_bytes(cpu) == 1500 << 10
    (tmp_path / "meminfo").unlink()  # not Linux: what the C library says, within the container's limit
    assert 0 < memory.available_bytes(cpu) <= 1500 << 10


def test_a_limit_means_fewer_adapters_at_a_time_and_one_line(student, caplog):
    work = updates()
    start = student.fresh([update.seed for update in work])
    expected = student.fit(work, start)
    assert expected.slots == len(work) and not lines(caplog)
    size = 4 * student.adapter_size  # bytes; a slot takes three times as much
    for slots in (6, 3, 1):
        caplog.clear()
        # The results; the slots, and half of another; a step of one adapter: its copies, its gradient and what makes it.
        with LimitedMemory(int((len(work) + 3 * (slots + 0.5) + 6) * size)):
            result = student.fit(work, start)
        assert result.slots <= slots
        assert len(lines(caplog)) == (result.slots < len(work) or result.step_tokens < expected.step_tokens)
        assert [report.status for report in result.reports] == [FitStatus.TRAINED] * len(work)
        assert [report.losses for report in result.reports] == [pytest.approx(r.losses, rel=1e-4) for r in expected.reports]
        assert [report.tokens for report in result.reports] == [report.tokens for report in expected.reports]
        assert result.useful_tokens == expected.useful_tokens
        torch.testing.assert_close(result.adapters, expected.adapters, rtol=0, atol=1e-5)
    assert result.slots == 1 < result.step_tokens


class FailsAt(LimitedMemory):
    """Memory runs out once, at one allocation."""

    def __init__(self, number: int) -> None:
        super().__init__(1 << 60)
        self.number = number

    def _allocated(self, tensor: torch.Tensor) -> None:
        super()._allocated(tensor)
        if self.allocations == self.number:
            self.allocations += 1
            raise torch.OutOfMemoryError("once")


def test_wherever_memory_runs_out_the_adapters_are_the_same(student, caplog):
    """At allocations from the first to the last: a step that failed halfway has left no trace."""
    student = Student(student.model, student.tokenizer, LoraConfig(**LORA | {"r": 2}), network=NETWORKS[type(student.network)])
    work = [replace(update, config=replace(update.config, epochs=1)) for update in updates(2)]
    start = student.fresh([update.seed for update in work])
    with LimitedMemory(1 << 60) as counting:
        expected = student.fit(work, start)
    stride = max(1, counting.allocations // 12)
    caught = 0
    for number in range(1, counting.allocations, stride):
        caplog.clear()
        with FailsAt(number):
            try:
                result = student.fit(work, start)
            except torch.OutOfMemoryError as error:
                assert str(error) == "once"  # outside of the steps, where no memory of the device is needed
                continue
        caught += bool(lines(caplog))
        assert result.reports == [
            type(r)(r.status, r.sequences, r.steps, r.tokens, pytest.approx(r.losses, rel=1e-4)) for r in expected.reports
        ]
        torch.testing.assert_close(result.adapters, expected.adapters, rtol=0, atol=1e-5)
    assert caught > 7


def test_answers_and_likelihoods_are_read_in_smaller_parts(student, caplog):
    work = updates(4)
    adapters = student.fit(work).adapters
    prompts = [[f"What is {i}{'?' * j}\n" for j in range(3)] for i in range(4)]
    answers = student.answer(adapters, prompts, max_new_tokens=8)
    sampled = student.sample(adapters, prompts, seeds=[[1, 2, 3]] * 4, max_new_tokens=8)
    likelihoods = student.log_likelihood(adapters, prompts, prompts)
    room = 10 * student.adapter_size  # two adapters and a half of the four
    for call, expected in (
        (lambda: student.answer(adapters, prompts, max_new_tokens=8), answers),
        (lambda: student.sample(adapters, prompts, seeds=[[1, 2, 3]] * 4, max_new_tokens=8), sampled),
        (lambda: student.log_likelihood(adapters, prompts, prompts), [pytest.approx(own, rel=1e-4) for own in likelihoods]),
    ):
        caplog.clear()
        with LimitedMemory(room):
            assert call() == expected
        assert len(lines(caplog)) == 1


def test_what_cannot_be_made_smaller_is_an_error_that_says_so(student):
    with LimitedMemory(MIB // 8), pytest.raises(torch.OutOfMemoryError):  # not even the results fit
        student.fit(updates(1))
    start = student.fresh([0])
    with (
        LimitedMemory(12 * student.adapter_size),
        pytest.raises(torch.OutOfMemoryError, match="too little memory for one adapter"),
    ):
        student.fit(updates(1), start)
    with LimitedMemory(1000), pytest.raises(torch.OutOfMemoryError, match="too little memory for a prompt with its answer"):
        student.answer(start, [["What?"]])


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory(student):
    class Broken(LimitedMemory):
        def _allocated(self, tensor: torch.Tensor) -> None:
            raise RuntimeError("broken")

    start = student.fresh([0])
    with Broken(0), pytest.raises(RuntimeError, match=r"^broken$"):
        student.answer(start, [["What?"]])


_RLIMIT = """
import logging, resource, sys, torch
from peft import LoraConfig
from seal_env import Student, TokenExample, Update, UpdateConfig
logging.basicConfig(level=logging.WARNING)
torch.set_num_threads(1)
student = Student.from_pretrained(sys.argv[1], LoraConfig(r=400, target_modules="all-linear"))
updates = [Update([TokenExample(tuple(range(2, 20)))], UpdateConfig(epochs=1), seed=i) for i in range(24)]
start = student.fresh([update.seed for update in updates])
student.fit(updates[:1], start[:1])
pages = int(open("/proc/self/statm").read().split()[0])
room = 4 * student.adapter_size * len(updates)  # the results; the optimizer's state takes three times as much
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * room, resource.RLIM_INFINITY))
result = student.fit(updates, start)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert result.slots < len(updates), result.slots
torch.testing.assert_close(result.adapters, student.fit(updates, start).adapters, rtol=0, atol=1e-5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
def test_the_system_refusing_memory_is_the_same(model_path):
    done = subprocess.run([sys.executable, "-c", _RLIMIT, model_path("llama")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("memory ran out") == 1
