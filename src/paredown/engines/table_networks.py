"""A transformer that reads rows of tables as bags of words and scaled names, without positions.

Legend: B = rows, N = number columns, M = other columns, K = words of a name, L = words of the other cells, T = 1 + N + L, D = width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from paredown.engines.table_rows import ABSENT, GIVEN, READS
from paredown.engines.words import PAD


class WordVectors(nn.Module):
    """A normalized vector for each word; the row of padding starts at zero."""

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        if not self.embedding.weight.is_meta:
            nn.init.kaiming_normal_(self.embedding.weight)
            with torch.no_grad():
                self.embedding.weight[PAD] = 0

    def forward(self, ids: Tensor) -> Tensor:
        """(...,) -> (..., D)."""
        vectors: Tensor = self.dropout(self.norm(self.embedding(ids)))
        return vectors

    def mean(self, ids: Tensor) -> Tensor:
        """Mean vector of the words of each name, (..., K) -> (..., D); zero where there is none."""
        known = (ids != PAD).unsqueeze(-1)
        found: Tensor = (self(ids) * known).sum(dim=-2) / known.sum(dim=-2).clamp(min=1)
        return found


class GatedBlock(nn.Module):
    """Attention and a feed-forward layer whose hidden units are scaled by one gate for each token; norms come after."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.gate = nn.Linear(width, 1, bias=False)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for child in (self.query, self.key, self.value, self.out):
            if not child.weight.is_meta:
                nn.init.xavier_uniform_(child.weight)
                nn.init.zeros_(child.bias)

    def forward(self, z: Tensor, known: Tensor) -> Tensor:
        """(B, T, D) and which tokens there are, (B, T) -> (B, T, D)."""
        z = self.norm1(z + self.dropout(self.attention(z, known)))
        return self.norm2(z + self.dropout(self.feed_forward(z)))  # type: ignore[no-any-return]

    def attention(self, z: Tensor, known: Tensor) -> Tensor:
        query, key, value = (part(z).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=known[:, None, None, :])
        attended: Tensor = self.out(seen.transpose(1, 2).flatten(-2))
        return attended

    def feed_forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.down(functional.relu(torch.sigmoid(self.gate(z)) * self.up(z)))
        return found


class ScoreHead(nn.Module):
    """Scores of the labels. Of two labels only one score is computed, the other is 0: cross-entropy of them is that of one logit."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 1 if classes == 2 else classes)
        self.two = classes == 2

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, classes)."""
        scores: Tensor = self.linear(self.norm(z))
        return torch.cat([torch.zeros_like(scores), scores], dim=-1) if self.two else scores


class TableTransformer(nn.Module):
    """Rows of any tables -> scores of labels, or without labels (`classes` 0) a projection of each row."""

    reads = READS

    def __init__(
        self, vocabulary: int, width: int, layers: int, heads: int, inner: int, classes: int, dropout: float, bind: bool, drop_missing: bool
    ) -> None:
        super().__init__()
        self.bind, self.drop_missing = bind, drop_missing
        self.words = WordVectors(vocabulary, width, dropout)
        bound = 1 / math.sqrt(width)
        self.number_bias, self.cls = (nn.Parameter(torch.empty(width).uniform_(-bound, bound)) for _ in range(2))
        self.align = nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(GatedBlock(width, heads, inner, dropout) for _ in range(layers))
        self.head: nn.Module = ScoreHead(width, classes) if classes else nn.Linear(width, width, bias=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words.embedding

    def tokens(
        self, number_names: Tensor, numbers: Tensor, given: Tensor, ids: Tensor, cells: Tensor, cell_names: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The vectors of a row's cells before the blocks, (B, N + L, D), and which of them there are."""
        of_numbers = numbers.unsqueeze(-1).to(self.cls.dtype) * self.words.mean(number_names) + self.number_bias
        of_words = self.words(ids)
        if self.bind and ids.shape[1]:
            named = self.words.mean(cell_names).gather(1, cells.long().clamp(min=0).unsqueeze(-1).expand(-1, -1, of_words.shape[-1]))
            of_words = of_words + named * (cells >= 0).unsqueeze(-1)
        known = torch.cat([given == GIVEN if self.drop_missing else given != ABSENT, ids != PAD], dim=1)
        return self.align(torch.cat([of_numbers, of_words], dim=1)), known

    def encode(self, number_names: Tensor, numbers: Tensor, given: Tensor, ids: Tensor, cells: Tensor, cell_names: Tensor) -> Tensor:
        """The vector of each row, (B, D): what the first token has become after the blocks."""
        z, known = self.tokens(number_names, numbers, given, ids, cells, cell_names)
        z = torch.cat([self.cls.expand(len(z), 1, -1).to(z.dtype), z], dim=1)
        known = functional.pad(known, (1, 0), value=True)
        for block in self.blocks:
            z = block(z, known)
        return z[:, 0]

    def forward(self, number_names: Tensor, numbers: Tensor, given: Tensor, ids: Tensor, cells: Tensor, cell_names: Tensor) -> Tensor:
        """(B, classes), or (B, D) where there are no labels."""
        found: Tensor = self.head(self.encode(number_names, numbers, given, ids, cells, cell_names))
        return found
