"""Tiny models and token files that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers

from paredown.artifacts.model import Model
from paredown.artifacts.tokens import END_OF_TEXT, Tokenizer, Tokens
from paredown.engines.modules import initialized

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = 1 + len(ALPHABET)
SHAPES: dict[str, Any] = {
    "llama": lambda **k: transformers.LlamaConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, max_position_embeddings=64, **k),
    "gpt2": lambda **k: transformers.GPT2Config(n_embd=32, n_head=4, n_layer=2, n_positions=64, **k),
    "opt": lambda **k: transformers.OPTConfig(hidden_size=32, ffn_dim=48, num_attention_heads=4, num_hidden_layers=2, word_embed_proj_dim=32, max_position_embeddings=64, **k),
    "gpt_neox": lambda **k: transformers.GPTNeoXConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=64, **k),
    "mistral": lambda **k: transformers.MistralConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, sliding_window=16, max_position_embeddings=64, **k),
    "qwen2": lambda **k: transformers.Qwen2Config(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, max_position_embeddings=64, **k),
    "bert": lambda **k: transformers.BertConfig(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=64, **k),
    "mixtral": lambda **k: transformers.MixtralConfig(hidden_size=32, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, num_local_experts=4, max_position_embeddings=64, **k),
    "qwen2_moe": lambda **k: transformers.Qwen2MoeConfig(hidden_size=32, intermediate_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=40, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, num_experts=4, num_experts_per_tok=2, max_position_embeddings=64, **k),
    "qwen3": lambda **k: transformers.Qwen3Config(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_hidden_layers=2, max_position_embeddings=64, **k),
}  # fmt: skip
CAUSAL = [name for name in SHAPES if name != "bert"]


def byte_tokenizer() -> str:
    """`tokenizer.json` of one token a byte, id 0 the mark."""
    fast = Fast(models.BPE(vocab={END_OF_TEXT: 0, **{c: i + 1 for i, c in enumerate(ALPHABET)}}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_TEXT])
    return str(fast.to_str())


def tokens(path: Path, texts: list[str]) -> Tokens:
    fast = Fast.from_str(byte_tokenizer())
    rows = [(np.array(fast.encode(text).ids, dtype=np.int64), len(text.encode())) for text in texts]
    return Tokens.write(path, rows, tokenizer=byte_tokenizer(), vocab_size=VOCABULARY)


def module(shape: str = "llama", seed: int = 0, scale: float = 0.3) -> Any:
    """A module with weights so large that its predictions are far from even."""
    torch.manual_seed(seed)
    config = SHAPES[shape](vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=0, tie_word_embeddings=False)
    kind = transformers.AutoModelForMaskedLM if shape == "bert" else transformers.AutoModelForCausalLM
    made = kind.from_config(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                parameter.normal_(0, scale)
    return made.eval()


def network(path: Path, architecture: Any) -> Model:
    """A network of our own whose batch norms have seen something."""
    made = initialized(architecture, None, 0)
    with torch.no_grad():
        for child in made.modules():
            if isinstance(child, torch.nn.BatchNorm2d):
                child.weight.normal_()
                child.bias.normal_()
                child.running_mean.normal_()
                child.running_var.uniform_(0.5, 2)
    return Model.save(path, made)


def model(path: Path, shape: str = "llama", seed: int = 0) -> Model:
    (path.parent / "tokenizer").mkdir(parents=True, exist_ok=True)
    (path.parent / "tokenizer" / "tokenizer.json").write_text(byte_tokenizer())
    return Model.save(path, module(shape, seed), Tokenizer(path.parent / "tokenizer").fast)
