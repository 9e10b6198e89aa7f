"""A T5-shaped encoder-decoder with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from paredown.core.strategy import Count, Share
from paredown.engines.parts import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def t5_parameters(vocab: int, hidden: int, encoder: int, decoder: int, inner: int, intermediate: int, buckets: int, heads: int) -> int:
    """Weights of a T5-shaped model with a gated feed-forward; `inner` is the width of all attention heads together."""
    attention, feed_forward = 4 * hidden * inner + hidden, 3 * hidden * intermediate + hidden
    blocks = encoder * (attention + feed_forward) + decoder * (2 * attention + feed_forward)
    return vocab * hidden + blocks + 2 * buckets * heads + 2 * hidden


class T5(Architecture):
    """An encoder-decoder of the T5 shape: relative positions, RMS norms, gated GELU, no biases, one embedding matrix.

    Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1, with the gated feed-forward of Shazeer 2020, arXiv 2002.05202.
    Costs: 2 FLOPs per weight and token forward, twice that backward; the encoder's weights for tokens of the input only, the
        decoder's for those of the target.
    Control: learn.models.llama
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-weights", "speedup-none")
    systems: ClassVar[tuple[int, ...]] = (74,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    hidden_size: Count = 128  # width of the residual stream
    layers: Count = 2  # blocks of the encoder
    decoder_layers: Count | None = None  # blocks of the decoder; as many as layers where not given
    heads: Count = 4  # attention heads
    head_dim: Count | None = None  # width of a head; hidden_size / heads where not given
    intermediate_size: Count | None = None  # width of the feed-forward layers; 8/3 of hidden_size, up to a multiple of 8, where not given
    buckets: Annotated[int, Field(ge=4)] = 32  # kinds of distances between tokens that are told apart, even
    max_distance: Count = 128  # tokens beyond which all distances are one kind
    dropout: Share = 0.0  # share of activations set to zero in training

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size}), or give head_dim")
        if self.buckets % 2:
            raise ValueError(f"buckets ({self.buckets}) must be even: half of them look back, half ahead")
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance ({self.max_distance}) must be above half of the buckets ({self.buckets})")
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
        return t5_parameters(
            vocab_size,
            self.hidden_size,
            self.layers,
            self.decoder_layers or self.layers,
            self.heads * self.head_width,
            self.feed_forward,
            self.buckets,
            self.heads,
        )

    def build(self, vocab_size: int, end_of_text: int) -> PreTrainedModel:
        from transformers import T5Config, T5ForConditionalGeneration

        config = T5Config(
            vocab_size=vocab_size,
            d_model=self.hidden_size,
            d_kv=self.head_width,
            d_ff=self.feed_forward,
            num_layers=self.layers,
            num_decoder_layers=self.decoder_layers or self.layers,
            num_heads=self.heads,
            relative_attention_num_buckets=self.buckets,
            relative_attention_max_distance=self.max_distance,
            dropout_rate=self.dropout,
            feed_forward_proj="gated-gelu",
            pad_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
        module = T5ForConditionalGeneration(config)
        for settings in (module.config, module.generation_config):
            settings.decoder_start_token_id = end_of_text
        return module
