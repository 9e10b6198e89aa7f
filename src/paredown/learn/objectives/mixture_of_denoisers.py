"""UL2's mixture of denoisers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import UserError
from paredown.core.strategy import Configured, Count, Positive, Share
from paredown.engines.parts import Objective, Rows

if TYPE_CHECKING:
    import torch

    from paredown.artifacts.examples import Examples
    from paredown.engines.denoising import Kind

FAMILIES = "RSX"
SHORT = 256  # tokens below which a chunk may be too short for the published spans


class Denoiser(Configured):
    """One kind of denoising."""

    family: Literal["R", "S", "X"]  # regular or extreme span corruption, or S: a prefix and what follows it
    mean: Positive = 3.0  # tokens of a span; not used by S
    rate: Share = 0.15  # share of the tokens that is taken out; of S the mean share, at most a half
    weight: Positive = 1.0  # how often it is drawn, against the others
    mode: str = ""  # token that names the family, put first; empty: the mixture's own for the family

    @model_validator(mode="after")
    def _mean_share(self) -> Self:
        if self.rate == 0 or (self.family == "S" and self.rate > 0.5):
            raise ValueError(f"a rate of {self.rate} cannot be: above 0, and of S at most 0.5, the mean of a target of any length")
        return self


def _all(*entries: tuple[str, float, float, float]) -> tuple[Denoiser, ...]:
    return tuple(Denoiser(family=f, mean=mean, rate=rate, weight=weight) for f, mean, rate, weight in entries)


MODES = {"R": "[NLU]", "S": "[S2S]", "X": "[NLG]"}
MIXTURES = {
    # arXiv 2205.05131, table 1, all alike; S takes a quarter on average, its length uniform
    "ul2": _all(("R", 3, 0.15, 1), ("R", 8, 0.15, 1), ("S", 1, 0.25, 1), ("X", 3, 0.5, 1), ("X", 8, 0.5, 1), ("X", 64, 0.15, 1), ("X", 64, 0.5, 1)),
    # arXiv 2210.11399, section 3.1: half S, a quarter long spans or high rates, a quarter short spans
    "ul2r": _all(("S", 1, 0.5, 4), ("X", 32, 0.15, 1), ("X", 3, 0.5, 1), ("R", 3, 0.15, 2)),
    "span_corruption": _all(("R", 3, 0.15, 1)),  # T5, arXiv 1910.10683
    "prefix_lm": _all(("S", 1, 0.5, 1)),  # the split uniform over the chunk
}  # fmt: skip


class MixtureOfDenoisers(Objective):
    """Fill short gaps, long or many gaps, and go on after a prefix: one kind an example, drawn at random and named by a token before it.

    Rows are raw chunks over all documents. Each kind takes as many tokens as make input and target together `length` of learn.train,
    so every example costs the same; a decoder's rows have hardly any padding, and an encoder-decoder's hold several examples.

    Source: Tay et al. 2022, arXiv 2205.05131, section 3.1 and table 1; ul2r: Tay et al. 2022, arXiv 2210.11399, section 3.1.
    Costs: nothing beside the forward and backward pass; loss is on 15% to 50% of the tokens that are read.
    Control: learn.objectives.next_token
    Not for: comparing its loss with another mixture's; use measure.denoising there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-during", "what-weights", "speedup-none", "needs-gradients")
    systems: ClassVar[tuple[int, ...]] = (74,)
    extras: ClassVar[tuple[str, ...]] = ("train",)

    mixture: Literal["ul2", "ul2r", "span_corruption", "prefix_lm"] = "ul2"  # published mixtures; ul2r to train a causal model further
    denoisers: tuple[Denoiser, ...] = ()  # a mixture of one's own instead
    modes: bool = True  # put the family's token first; the vocabulary must have it (corpus.tokenize.bpe: special_tokens)
    attention: Literal["prefix", "causal", "encoder_decoder"] = "prefix"  # how a decoder reads its input; or that the model has an encoder
    short: Literal["scale", "drop"] = "scale"  # kinds with one span, below 256 tokens: two spans of half the mean, or left out
    together: Count = 2  # examples in a row of an encoder-decoder; more is less padding and more attention

    def kinds(self, data: Tokens, length: int) -> list[Kind]:
        """The kinds that are drawn, for rows of `length` tokens.

        Raises:
            UserError: a mode token is not in the vocabulary, or no kind fits.
        """
        from paredown.engines.denoising import Kind, raw_length, spans

        found = []
        for item in self.denoisers or MIXTURES[self.mixture]:
            name = (item.mode or MODES[item.family]) if self.modes else ""
            mode = data.tokenizer.special_id(name) if name else -1
            raw = length - 1 - bool(name) if item.family == "S" else raw_length(length, item.mean, item.rate, bool(name))
            raw, mean = min(raw, data.tokens), item.mean
            if raw < 2:
                raise UserError(f"rows of {length} tokens are too short to take anything out", todo="make length larger")
            if item.family != "S" and raw < SHORT and spans(raw, mean, item.rate)[1] == 1:
                if self.short == "drop":
                    continue
                mean = max(1.0, spans(raw, mean, item.rate)[0] / 2)
                raw = min(raw_length(length, mean, item.rate, bool(name)), data.tokens)
            found.append(Kind(FAMILIES.index(item.family), mean, item.rate, item.weight, mode, item.family == "S", raw))
        if not found:
            raise UserError(f"rows of {length} tokens are too short for all of the denoisers", todo="short: scale, or make length larger")
        return found

    def rows(self, data: Tokens | Examples, length: int) -> Rows:
        from paredown.engines import denoising

        if not isinstance(data, Tokens):
            raise UserError("mixture_of_denoisers learns from tokens, not from examples", where="objective")
        denoising.check_all_learnt(data)
        kinds = self.kinds(data, length)
        context().facts["denoisers"] = [
            {"family": FAMILIES[k.family], "mean": k.mean, "rate": k.rate, "weight": k.weight, "tokens": k.length, "spans": k.spans[1]}
            for k in kinds
        ]
        layout: Any = partial(denoising.for_decoder, width=length)
        if self.attention == "encoder_decoder":
            layout = partial(denoising.for_encoder_decoder, start=data.end_of_text, together=self.together)
        return denoising.DenoisingRows(data.ids, kinds, data.tokenizer.sentinels(), data.end_of_text, layout)

    def prepare(self, module: torch.nn.Module) -> None:
        """
        Raises:
            UserError: the model is of another kind than `attention` says.
        """
        from paredown.engines import encoder_decoders

        if self.attention == "encoder_decoder":
            if not encoder_decoders.is_encoder_decoder(module):
                raise UserError("the model has no encoder", where="objective.attention", todo="attention: prefix, or causal")
            encoder_decoders.pack_examples(module)
        else:
            encoder_decoders.refuse(module, f"attention: {self.attention}", todo="attention: encoder_decoder")
            if self.attention == "prefix":
                encoder_decoders.check_prefix(module)
        names: dict[str, str] = (
            {item.family: item.mode or MODES[item.family] for item in self.denoisers or MIXTURES[self.mixture]} if self.modes else {}
        )
        encoder_decoders.note(module, prefix=self.attention == "prefix", modes=names)

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int, dict[str, tuple[torch.Tensor, int]]]:
        """Mean cross-entropy in nats over the targets, and the same of each family."""
        from paredown.engines.encoder_decoders import denoising_logits, means_by_group, token_nats

        nats = token_nats(denoising_logits(module, batch, prefix=self.attention == "prefix"), batch["targets"])
        parts = means_by_group(nats.detach(), batch["targets"], batch["family"], len(FAMILIES))
        predicted = sum(n for _, n in parts)
        named = {f"loss_{family}": part for family, part in zip(FAMILIES, parts, strict=True)}
        return nats.sum() / max(1, predicted), predicted, named
