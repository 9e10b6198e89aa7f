"""Byte-level BPE: learn a vocabulary, then encode."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from paredown.artifacts.corpus import Corpus
from paredown.artifacts.tokens import SENTINEL, Tokenized
from paredown.core.context import context
from paredown.core.strategy import Count, Strategy


class Bpe(Strategy):
    """Learn a byte-level BPE vocabulary on a corpus and encode it, and a held-out corpus with the same vocabulary.

    Any bytes round-trip: the 256 bytes are in the vocabulary. `<|endoftext|>` is id 0 and stands before and after each
    document; its text inside a document is encoded as text.

    Source: Sennrich et al. 2016, arXiv 1508.07909, section 3.2, on bytes (Radford et al. 2019).
    Costs: two passes over the text, some 3 MB a second and core.
    Control: none (arms share it).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-tokens", "speedup-universal")
    extras: ClassVar[tuple[str, ...]] = ("train",)

    vocab_size: Annotated[int, Field(ge=257)] = 4096  # tokens, the 256 bytes and the end-of-text mark among them
    min_frequency: Count = 2  # how often a pair must stand in the corpus to become a token
    sentinels: Annotated[int, Field(ge=0)] = 0  # tokens <extra_id_0> and on beside vocab_size, for objectives that take stretches out
    special_tokens: tuple[str, ...] = ()  # more tokens beside vocab_size that no text gives, such as [NLU], [NLG] and [S2S]
    training_bytes: Count = 200_000_000  # most UTF-8 bytes to learn the vocabulary from, taken from the front

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        return {"vocab_size": float(self.vocab_size + self.sentinels + len(self.special_tokens))}

    def __call__(self, corpus: Corpus, held_out: Corpus | None = None) -> Tokenized:
        """
        Raises:
            DataError: the corpus holds no text.
            UserError: a special token is there already.
        """
        from paredown.engines import byte_pairs

        here = context()
        vocabulary = byte_pairs.learn(corpus, self.vocab_size, self.min_frequency, self.training_bytes)
        vocabulary = byte_pairs.extended(vocabulary, [*(SENTINEL.format(n) for n in range(self.sentinels)), *self.special_tokens])
        train = byte_pairs.encode(corpus, vocabulary, here.output("train"), "train")
        held = byte_pairs.encode(held_out, vocabulary, here.output("held_out"), "held-out") if held_out else None
        here.facts["vocabulary"] = train.vocab_size
        here.charge(tokens=train.tokens + (held.tokens if held else 0), documents=corpus.documents)
        return Tokenized(train, held, byte_pairs.save(vocabulary, here.output("tokenizer")))
