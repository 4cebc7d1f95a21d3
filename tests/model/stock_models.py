"""Tiny random text models of transformers, saved as a user finds them."""

from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)  # fmt: skip

from hocket.vocab import train_bpe

ROWS, N_TEXT = 280, 256
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
SHAPE = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 260, "eos_token_id": 261, "pad_token_id": None,
    "max_position_embeddings": 64, "attention_dropout": 0.0, "use_cache": True,
}  # fmt: skip
CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
}
VARIANTS = {
    "llama": ("llama", {}),
    "llama, wide heads, tied": ("llama", {"head_dim": 16, "tie_word_embeddings": True, "eos_token_id": [262, 261]}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-4}),
    "mistral, window": ("mistral", {"sliding_window": 5}),
    "qwen2, tied": (
        "qwen2",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    "qwen3": ("qwen3", {"head_dim": 16, "bos_token_id": None}),
    "smollm3": ("smollm3", {}),
    "smollm3, window beyond": ("smollm3", {"use_sliding_window": True, "sliding_window": 128}),
}


def make_stock(folder: Path, family: str, seed: int = 0, dtype: torch.dtype = torch.float32, **changes):
    """A random model of a family, saved into the folder with a tokenizer; every weight differs from its default."""
    config_class, model_class = CLASSES[family]
    torch.manual_seed(seed)
    model = model_class(config_class(**SHAPE | changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.3 if weight.ndim == 1 else 0.1))
    model = model.to(dtype)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(train_bpe(["abc"], N_TEXT).serialized())
    return model
