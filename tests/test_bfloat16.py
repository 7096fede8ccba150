"""The student with bfloat16 weights on the CPU: products against float64, exactness, training and decoding."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

import seal_env.student
from seal_env import presets
from seal_env.domains import from_keywords
from seal_env.student import Student, native
from seal_env.student.llama import LlamaNetwork
from seal_env.student.native import NativeOps, compile_library
from seal_env.student.ops import TorchOps
from seal_env.update import TokenExample, Update, UpdateConfig

KERNELS = Path(seal_env.student.__file__).with_name("kernels.c")
if compile_library(KERNELS) is None:
    pytest.skip("no compiled kernels here", allow_module_level=True)


@pytest.fixture(params=["processor", "emulated units"])
def ops(request, tmp_path) -> NativeOps:
    """The kernels of this processor, and those for processors with bfloat16 units, which are emulated."""
    source = KERNELS
    if request.param == "emulated units":
        source = tmp_path / "kernels.c"
        source.write_text(f'#define EMULATE_BF16_UNITS\n#include "{KERNELS}"\n')
    library = compile_library(source)
    assert library is not None and (request.param == "processor" or library.bf16_units())
    return NativeOps(library, pack_weights=True)


def tensors(rows: int, depth: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * depth + width)
    return torch.randn(rows, depth, generator=generator), torch.randn(width, depth, generator=generator).bfloat16()


@pytest.mark.parametrize(("rows", "depth", "width"), [(1, 64, 16), (7, 96, 40), (30, 33, 17), (25, 258, 258), (3, 2, 1)])
def test_products_are_those_of_float64_within_the_rounding_of_one_factor(ops, rows, depth, width):
    x, weight = tensors(rows, depth, width)
    rounded = x.bfloat16() if ops.library.bf16_units() else x
    expected = rounded.double() @ weight.double().T
    bound = 1e-5 * (rounded.double().abs() @ weight.double().abs().T)
    bias, residual = torch.randn(width).bfloat16(), torch.randn(rows, width)
    assert ((ops.product(x, weight) - expected).abs() <= bound).all()
    complete = ops.product(x, weight, bias, residual)
    assert ((complete - (expected + bias.double() + residual)).abs() <= bound + 1e-5).all()

    dy, _ = tensors(rows, width, 1)
    rounded = dy.bfloat16() if ops.library.bf16_units() else dy
    expected = rounded.double() @ weight.double()
    bound = 1e-5 * (rounded.double().abs() @ weight.double().abs())
    assert ((ops.product_backward(dy, weight) - expected).abs() <= bound).all()
    # A row has the same bits whatever rows are beside it.
    assert torch.equal(ops.product(x, weight)[-1:], ops.product(x[-1:].contiguous(), weight))


def test_infinite_and_undefined_factors_stay_so(ops):
    x, weight = tensors(3, 8, 8)
    x[0, 0], x[1, 0] = torch.inf, torch.nan
    product = ops.product(x, weight.abs() + 1)
    assert product[0].isinf().all() and product[1].isnan().all() and product[2].isfinite().all()


def updates(count: int = 4) -> list[Update]:
    generator = torch.Generator().manual_seed(3)
    examples = [
        [TokenExample(tuple(torch.randint(2, 258, (n + 3 * i,), generator=generator).tolist())) for n in (9, 25, 14)]
        for i in range(count)
    ]
    return [Update(own, UpdateConfig(epochs=2, learning_rate=1e-3), seed=i) for i, own in enumerate(examples)]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_an_update_is_that_of_the_rounded_weights_in_float32(model_path, kind):
    student = Student.from_pretrained(model_path(kind), dtype="bfloat16")
    assert isinstance(student.network, LlamaNetwork) and isinstance(student.network.ops, NativeOps)
    assert student.model.dtype == torch.bfloat16 and student.network.dtype == torch.float32
    work = updates()
    fitted = student.fit(work)
    assert torch.equal(student.fit(work[:1]).adapters[0], fitted.adapters[0])  # whatever is beside it

    reference = Student.from_pretrained(model_path(kind))
    reference.load_base({name: weight.float() for name, weight in student.model.state_dict().items()})
    start = student.fresh([update.seed for update in work])
    change, expected = fitted.adapters - start, reference.fit(work).adapters - start
    cosine = torch.nn.functional.cosine_similarity(change, expected)
    assert (cosine > (0.97 if student.network.ops.library.bf16_units() else 0.999)).all()
    prompts = [["When?", "Who was it?"]] * len(work)
    answers = student.log_likelihood(fitted.adapters, prompts, [["In 1219.", "Nobody."]] * len(work))
    others = reference.log_likelihood(fitted.adapters, prompts, [["In 1219.", "Nobody."]] * len(work))
    torch.testing.assert_close(torch.tensor(answers), torch.tensor(others), atol=0.2, rtol=0.02)
    assert [len(group) for group in student.answer(fitted.adapters, prompts, max_new_tokens=4)] == [2] * len(work)


def test_a_merge_is_rounded_and_packed_again(model_path):
    student = Student.from_pretrained(model_path("llama"), dtype="bfloat16")
    before = student.log_likelihood(student.zero(1), [["When?"]], [["In 1219."]])
    adapter = student.fresh([0])[0] + 0.2 * torch.randn(student.adapter_size, generator=torch.Generator().manual_seed(0))
    adapted = student.log_likelihood(adapter[None], [["When?"]], [["In 1219."]])
    student.merge(adapter)
    merged = student.log_likelihood(student.zero(1), [["When?"]], [["In 1219."]])
    assert merged != before
    assert merged[0][0] == pytest.approx(adapted[0][0], rel=0.02, abs=0.2)


def test_it_is_the_default_for_one_model_where_the_processor_has_units(tmp_path, monkeypatch):
    for flags, expected in (("fpu avx512_bf16 amx_bf16", "bfloat16"), ("fpu avx2", "float32")):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t: {flags}\n")
        monkeypatch.setattr(presets, "_CPUINFO", tmp_path / "cpuinfo")
        presets.has_bfloat16_units.cache_clear()
        config = from_keywords({"model": "smollm2-135m"})
        assert config.dtype == expected == config.to_dict()["dtype"]
        assert from_keywords({"model": "smollm2-135m", "dtype": "float32"}).dtype == "float32"
        assert from_keywords({"model": "smollm2-135m", "device": "cuda"}).dtype == "float32"
        assert from_keywords({}).dtype == "float32"
    presets.has_bfloat16_units.cache_clear()


def test_one_line_says_what_is_slower(model_path, caplog, monkeypatch):
    native._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            student = Student.from_pretrained(model_path("llama"), dtype="bfloat16")
    ops = student.network.ops
    assert isinstance(ops, NativeOps)
    text = "this processor has no bfloat16 units: products with bfloat16 weights are computed in float32"
    assert caplog.text.count(text) == (not ops.library.bf16_units())
    native._warn_once.cache_clear()
    monkeypatch.setenv("SEAL_ENV_NATIVE", "0")
    with caplog.at_level(logging.WARNING):
        student = Student.from_pretrained(model_path("llama"), dtype="bfloat16")
    assert type(student.network.ops) is TorchOps and student.network.dtype == torch.bfloat16
    assert "bfloat16 on the CPU runs on PyTorch's operations, slowly: there are no compiled kernels" in caplog.text
