"""Tiny models of many architectures on disk: byte tokens, and random weights large enough that tokens change the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.measurements.shapes import byte_tokenizer

VOCABULARY = 258  # of the byte tokenizer
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
HEADS = {**COMMON, "head_dim": 8}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 1}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_n_groups": 1}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 32,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

# name -> model type and options of its config; comments say what is special about an architecture.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", COMMON),
    "qwen3": ("qwen3", HEADS),
    "gemma2": ("gemma2", {**HEADS, "sliding_window": 8, "final_logit_softcapping": 30.0}),  # soft-capped logits
    "cohere": ("cohere", {**COMMON, "logit_scale": 0.0625}),  # scaled logits
    "granite": ("granite", {**COMMON, "logits_scaling": 3.0}),
    "olmo3": ("olmo3", {**COMMON, "sliding_window": 8}),
    "falcon-h1": ("falcon_h1", {**COMMON, **MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.5}),  # multipliers; recurrent
    "lfm2": ("lfm2", {**COMMON, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}),
    "bamba": ("bamba", {**COMMON, **MAMBA, "attn_layer_indices": [1]}),
    "mamba2": (
        "mamba2",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 16}
        | {"n_groups": 1},
    ),
    "opt": (  # two-dimensional inputs, projections around the decoder
        "opt",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
        | {"word_embed_proj_dim": 16, "max_position_embeddings": 512, "pad_token_id": 1, "dropout": 0.0},
    ),
    "gpt2": ("gpt2", {**GPT, **NO_DROPOUT, "n_positions": 512}),
    "bloom": ("bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),  # without position ids
    "mpt": ("mpt", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}),
    "falcon": ("falcon", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "phi3": ("phi3", COMMON),
    "phi3-longrope": ("phi3", {**COMMON, "original_max_position_embeddings": 32, "rope_parameters": LONGROPE}),
    "mixtral": ("mixtral", {**COMMON, "num_local_experts": 4}),
    "qwen2-moe": (
        "qwen2_moe",
        {**COMMON, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        | {"shared_expert_intermediate_size": 32},
    ),
    "deepseek-v3": ("deepseek_v3", {**COMMON, **MLA}),  # a layer that reads the compressed cache of earlier tokens
    "modernbert-decoder": ("modernbert-decoder", {**COMMON, "local_attention": 8}),  # its head is named decoder
    "gemma3": (  # multimodal: the language model is a submodule
        "gemma3",
        {"text_config": {**HEADS, "sliding_window": 8}, "vision_config": VISION, "mm_tokens_per_image": 4}
        | {"image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7},
    ),
}


def save_tiny(folder: str | Path, kind: str, **options: Any) -> str:
    """Write a model of the architecture ``kind`` and the byte tokenizer to ``folder``; returns the folder."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
