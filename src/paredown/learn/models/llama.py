"""A Llama-shaped model with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from paredown.core.strategy import Count, Positive
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def llama_parameters(
    vocab: int, hidden: int, layers: int, heads: int, key_value_heads: int, head_dim: int, intermediate: int, tied: bool
) -> int:
    """Weights of a Llama-shaped model without biases."""
    attention = 2 * hidden * head_dim * (heads + key_value_heads)
    block = attention + 3 * hidden * intermediate + 2 * hidden
    return layers * block + hidden + vocab * hidden * (1 if tied else 2)


class Llama(Architecture):
    """A decoder of the Llama shape: rotary positions, RMS norms, SwiGLU, no biases.

    Source: Touvron et al. 2023, arXiv 2302.13971, section 2.2.
    Costs: 2 FLOPs per weight and token forward, twice that backward.
    Control: none (it is the dense model that savings are measured against).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    hidden_size: Count = 128  # width of the residual stream
    layers: Count = 3  # blocks
    heads: Count = 4  # attention heads, a divisor of hidden_size
    key_value_heads: Count | None = None  # heads of keys and values, a divisor of heads; as many as heads where not given
    head_dim: Count | None = None  # width of a head, even; hidden_size / heads where not given; pruned heads keep theirs
    intermediate_size: Count | None = None  # width of the feed-forward layers; 8/3 of hidden_size, up to a multiple of 8, where not given
    tie_embeddings: bool = True  # one matrix for input and output embeddings
    max_length: Count = 2048  # longest input in tokens
    rope_theta: Positive = 10_000.0  # base of the rotary positions

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden_size % self.heads or (self.head_dim is None and self.head_width % 2):
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size}) into heads of even width")
        if self.head_width % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even, for rotary positions")
        if self.key_value_heads and self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads ({self.key_value_heads}) must divide heads ({self.heads})")
        return self

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.head_dim or self.hidden_size // self.heads

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward layers."""
        return self.intermediate_size or -(-8 * self.hidden_size // 24) * 8

    def parameters(self, vocab_size: int) -> int:
        groups = self.key_value_heads or self.heads
        return llama_parameters(
            vocab_size, self.hidden_size, self.layers, self.heads, groups, self.head_width, self.feed_forward, self.tie_embeddings
        )

    def build(self, vocab_size: int, end_of_text: int) -> PreTrainedModel:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads or self.heads,
            head_dim=self.head_width,
            intermediate_size=self.feed_forward,
            max_position_embeddings=self.max_length,
            tie_word_embeddings=self.tie_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
        module = LlamaForCausalLM(config)
        # Only generation is told of a padding token: in the config it would freeze that token's embedding at zero.
        module.generation_config.pad_token_id = end_of_text
        return module
