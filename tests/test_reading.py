"""Prompts with common beginnings, which are computed once, and rows that do not depend on the rows beside them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import seal_env.student
from seal_env.student import Student
from seal_env.student.groups import Groups
from seal_env.student.native import NativeOps, compile_library
from seal_env.student.ops import TorchOps
from seal_env.student.reading import prompt_chunks

KERNELS = Path(seal_env.student.__file__).with_name("kernels.c")
PROMPTS = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(2, 4), min_size=1, max_size=12)), min_size=1, max_size=20
).map(lambda rows: sorted(rows, key=lambda row: row[0]))


@given(PROMPTS, st.integers(1, 40), st.sampled_from([0, 4096]))
@settings(max_examples=200, deadline=None)
def test_chunks_have_every_prompt_once(rows, limit, shared):
    used = sorted({adapter for adapter, _ in rows})
    adapters, prompts = [used.index(adapter) for adapter, _ in rows], [prompt for _, prompt in rows]
    chunks = list(prompt_chunks(prompts, adapters, limit, shared))
    spans = {row: (chunk, span) for chunk in chunks for row, *span in chunk.spans}
    assert sorted(spans) == list(range(len(prompts))) == sorted(row for chunk in chunks for row in chunk.rows)
    for row, (chunk, (prefix, before, start, length)) in spans.items():
        assert chunk.tokens[prefix : prefix + before] + chunk.tokens[start : start + length] == prompts[row]
        for first in ([prefix] if before else []) + [start]:
            adapter = chunk.first_adapter + next(i for i in range(len(chunk.counts)) if first < sum(chunk.counts[: i + 1]))
            assert adapter == adapters[row]
    for chunk in chunks:
        assert sum(chunk.counts) == sum(chunk.lengths) == len(chunk.tokens)
        assert len(chunk.tokens) <= limit or len({tuple(prompts[row]) for row in chunk.rows}) == 1
        entries = {(row, position): chunk.tokens[token] for token, row, position in chunk.entries().tolist()}
        assert entries == {(row, i): token for row in chunk.rows for i, token in enumerate(prompts[row])}


def test_what_prompts_have_in_common_is_read_once():
    (chunk,) = prompt_chunks([[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8], [5, 6, 7]], [0, 0, 0, 1], 100, 4096)
    assert chunk.tokens == [5, 6, 7, 8, 9, 5, 6, 7]
    assert chunk.lengths == [2, 2, 1, 3] and chunk.counts == [5, 3]
    # A prompt that is the beginning of another keeps its last token.
    (chunk,) = prompt_chunks([[5, 6], [5, 6, 7]], [0, 0], 100, 4096)
    assert chunk.tokens == [5, 6, 6, 7]
    # Kernels that cannot share pad; equal prompts are read once there, too.
    (chunk,) = prompt_chunks([[5, 6], [5, 6, 7], [5, 6]], [0, 0, 0], 100, 0)
    assert chunk.tokens == [5, 6, 0, 5, 6, 7]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_common_beginning_changes_no_bit(model_path, kind):
    student = Student.from_pretrained(model_path(kind))
    if type(student.network.ops) is not NativeOps:
        pytest.skip("no compiled kernels here")
    rng = random.Random(0)

    def ids(count: int) -> list[int]:
        return [rng.randrange(2, 258) for _ in range(count)]

    common = ids(37)
    prompts = [common + ids(count) for count in (1, 2, 5, 18, 40)] + [common[:20], [*common, 2], common]
    adapters = student.fresh([1, 2])
    adapters += 0.02 * torch.randn(adapters.shape, generator=torch.Generator().manual_seed(0))

    def logits(rows: list[list[int]], owners: list[int]) -> torch.Tensor:
        session = student.network.decode(adapters[: max(owners) + 1], owners, rows, 4)
        results = [session.prefill()]
        for _ in range(3):
            results.append(session.step(results[-1].argmax(-1)))
        return torch.stack(results, 1)

    alone = torch.cat([logits([prompt], [0]) for prompt in prompts])
    assert torch.equal(logits(prompts, [0] * len(prompts)), alone)
    assert torch.equal(logits([*prompts, *prompts], [0] * len(prompts) + [1] * len(prompts))[: len(prompts)], alone)
    # The same numbers as without sharing, by PyTorch's operations.
    student.network.ops = TorchOps()
    assert_close(logits(prompts, [0] * len(prompts)), alone, atol=2e-5, rtol=1e-5)


def test_log_likelihoods_of_answers_to_one_prompt_are_those_of_each(model_path):
    student = Student.from_pretrained(model_path("qwen2"))
    prompt, answers = "Otrar\nWhen did it fall?", ["In 1219.", "Then.", "In 1919, after a long siege."]
    together = student.log_likelihood(student.zero(1), [[prompt] * 3], [answers])[0]
    assert together == [student.log_likelihood(student.zero(1), [[prompt]], [[answer]])[0][0] for answer in answers]


@pytest.mark.parametrize("width", [32, 48, 576])
@pytest.mark.parametrize("rank", [1, 4, 6, 16])
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(width, rank):
    library = compile_library(KERNELS)
    if library is None:
        pytest.skip("no compiled kernels here")
    ops = NativeOps(library, pack_weights=True)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 9, width, generator=generator)
    w, weight = torch.randn(1, rank, width, generator=generator), torch.randn(40, width, generator=generator)

    def results(rows: slice) -> list[torch.Tensor]:
        groups, sums = Groups([rows.stop - rows.start], x.device), y[rows].clone()
        down = ops.lora_down(groups, x[rows].contiguous(), w)
        ops.lora_up_(groups, sums, down, w, 2.0)
        return [down, sums, ops.product(x[rows].contiguous(), weight), ops.rms_norm(x[rows], w[0, 0], 1e-6)[0]]

    together = results(slice(0, 9))
    for first, last in ((0, 1), (0, 2), (0, 3), (2, 5), (1, 8), (8, 9)):
        for part, total in zip(results(slice(first, last)), together):
            assert torch.equal(part, total[first:last])
