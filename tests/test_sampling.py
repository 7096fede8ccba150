"""Sampled text has the distribution of Transformers, and a row has the same samples in any batch."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from seal_env import Student
from seal_env.student import Sampling


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.95), (0.7, 0.5), (3.0, 0.9), (1.0, 1e-6)])
def test_tokens_are_drawn_from_the_distribution_of_transformers(temperature, top_p):
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, 50)
    warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits))
    expected = torch.softmax(warped.double(), -1)[0]
    # Uniforms on an even grid: each token must have its probability as its frequency, up to one part of the grid.
    grid = torch.arange(20_000, dtype=torch.float64) / 20_000
    drawn = Sampling(temperature, top_p).draw(logits.expand(len(grid), -1), grid)
    frequencies = torch.bincount(drawn, minlength=50) / len(grid)
    torch.testing.assert_close(frequencies.double(), expected, rtol=0, atol=1.5e-4)
    assert not (frequencies[expected == 0] > 0).any()


def test_the_largest_uniform_never_leaves_the_kept_set():
    logits = torch.tensor([[0.0, 5.0, 1.0, 1.0]])
    last = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert Sampling(1.0, 0.9).draw(logits, last).item() == 1
    assert Sampling(1.0, 1.0).draw(logits, last).item() == 3
    never = torch.tensor([[0.0, 5.0, 1.0, float("-inf")]])
    assert Sampling(1.0, 1.0).draw(never, last).item() == 2


@pytest.mark.parametrize(("model", "network"), [("llama", "llama"), ("qwen2", "generic")])
def test_what_a_row_draws_depends_on_its_seed_alone(model_path, model, network):
    student = Student.from_pretrained(model_path(model), network=network)
    prompts, sampling = ["Once", "A longer beginning, which", "Then"], Sampling(0.9, 0.95)
    options = {"sampling": sampling, "max_new_tokens": 20}
    (together,) = student.sample(student.zero(1), [prompts], seeds=[[7, 8, 7]], **options)
    for prompt, seed, answer in zip(prompts, [7, 8, 7], together):
        ((alone,),) = student.sample(student.zero(1), [[prompt]], seeds=[[seed]], **options)
        assert alone == answer
    (others,) = student.sample(student.zero(1), [prompts], seeds=[[1, 2, 3]], **options)
    assert all(mine != theirs for mine, theirs in zip(together, others))


def test_wrong_arguments_say_what_would_work(model_path):
    student = Student.from_pretrained(model_path("llama"))
    with pytest.raises(ValueError, match="one seed a prompt"):
        student.sample(student.zero(1), [["a", "b"]], seeds=[[1]])
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        Sampling(temperature=0.0)
    with pytest.raises(ValueError, match=r"top_p must be above 0 and at most 1, got 1\.5"):
        Sampling(top_p=1.5)
