"""Small real models: the true architectures with random weights, saved to disk and loaded by path."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig, Qwen2Config

from benchmarks.measurements.shapes import save_random_model

CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        attention_bias=True,
    ),
    "qwen2": Qwen2Config(  # grouped-query attention, biases on q, k and v
        vocab_size=258,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    ),
    "toy": LlamaConfig(  # weights large enough that a small adapter can turn its output around
        vocab_size=258,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "gpt2": GPT2Config(
        vocab_size=258,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=512,
        bos_token_id=0,
        eos_token_id=1,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}

LONGEST = (
    "run",
    "spread",
    "agents",
    "nano_arc",
    "arc_env",
    "nano",
    "seal_setting",
    "student_exact",
    "ppo",
    "docs",
    "vector_envs",
    "architectures",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that processes which take a file at a time end at about the same time."""
    order = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory):
    """``model_path(name)``: the folder of a small random model of that architecture."""
    made: dict[str, Path] = {}

    def path(name: str) -> str:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            save_random_model(CONFIGS[name], made[name], seed=1)
        return str(made[name])

    return path
