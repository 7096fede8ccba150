"""Small models of real architectures with random weights, saved to disk and loaded by path."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before it is imported: tests of missing datasets do not wait for a network

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
    "toy": LlamaConfig(  # weights large enough that a small adapter changes the output
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

SLOWEST = (
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
    """Run the slowest files first: worker processes, which take one file at a time, then end at about the same time."""
    order = {f"test_{name}.py": i for i, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory):
    """A function from a name of ``CONFIGS`` to the folder of that model."""
    folders: dict[str, Path] = {}

    def path(name: str) -> str:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            save_random_model(CONFIGS[name], folders[name], seed=1)
        return str(folders[name])

    return path
