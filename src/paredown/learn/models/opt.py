"""An OPT-shaped model with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import model_validator

from paredown.core.strategy import Count
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OFFSET = 2  # rows of OPT's positions that no token ever uses


def opt_parameters(vocab: int, hidden: int, layers: int, intermediate: int, positions: int, tied: bool) -> int:
    """Weights of an OPT-shaped model: biases in every linear layer of the blocks, two layer norms a block and one behind them."""
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * intermediate + intermediate + hidden
    block = attention + feed_forward + 2 * 2 * hidden
    return layers * block + 2 * hidden + (positions + OFFSET) * hidden + vocab * hidden * (1 if tied else 2)


class Opt(Architecture):
    """A decoder of the OPT shape: learned positions, layer norms before each part, ReLU, biases everywhere in the blocks.

    Source: Zhang et al. 2022, arXiv 2205.01068, section 2.1; without dropout.
    Costs: 2 FLOPs per weight and token forward, twice that backward.
    Control: none (it is the dense model that savings are measured against).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    hidden_size: Count = 128  # width of the residual stream
    layers: Count = 4  # blocks
    heads: Count = 4  # attention heads, a divisor of hidden_size
    intermediate_size: Count | None = None  # width of the feed-forward layers; four times hidden_size where not given
    tie_embeddings: bool = True  # one matrix for input and output embeddings
    max_length: Count = 2048  # longest input in tokens

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")
        return self

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward layers."""
        return self.intermediate_size or 4 * self.hidden_size

    def parameters(self, vocab_size: int) -> int:
        return opt_parameters(vocab_size, self.hidden_size, self.layers, self.feed_forward, self.max_length, self.tie_embeddings)

    def build(self, vocab_size: int, end_of_text: int) -> PreTrainedModel:
        from transformers import OPTConfig, OPTForCausalLM

        config = OPTConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            word_embed_proj_dim=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            ffn_dim=self.feed_forward,
            max_position_embeddings=self.max_length,
            tie_word_embeddings=self.tie_embeddings,
            dropout=0.0,
            attention_dropout=0.0,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            pad_token_id=None,  # a padding token would freeze its embedding at zero
        )
        module = OPTForCausalLM(config)
        module.generation_config.pad_token_id = end_of_text
        return module
