"""How well a language model predicts text that it has not seen."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from paredown.artifacts.model import Model
from paredown.artifacts.scores import Score, Scores
from paredown.artifacts.tokens import Tokens
from paredown.core.context import context
from paredown.core.errors import DataError, UserError
from paredown.core.strategy import Count, Strategy


def bits_per_byte(nats: float, text_bytes: int) -> float:
    """Bits that the model needs for one byte of text: all nats over ln 2 and the UTF-8 bytes."""
    return nats / math.log(2) / text_bytes


class Perplexity(Strategy):
    """Measure held-out loss, perplexity per token and bits per byte, each document seen alone; documents without text are left out.

    Source: none (ours); bits per byte as in Gao et al. 2020, arXiv 2101.00027, section 3.1; sliding windows as in
        Press et al. 2020, arXiv 2012.15832, section 2.
    Costs: one forward pass over the measured tokens, about length / stride passes over documents longer than a window.
    Control: none (a measurement)
    Not for: comparing perplexity between tokenizers; use its bits_per_byte there.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-after", "what-weights", "speedup-none", "needs-data")
    extras: ClassVar[tuple[str, ...]] = ("train",)
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte", "perplexity", "loss")

    max_tokens: Annotated[float, Field(ge=1)] | None = None  # predicted tokens to measure on at most, whole documents; default all of them
    length: Count | None = None  # tokens a window; default the model's context, at most 2048
    stride: Count | None = None  # tokens from one window's start to the next, 1 to length; default half of length
    batch: Count = 8  # full windows a forward pass; shorter windows share the same number of tokens
    precision: Literal["float32", "bfloat16", "stored"] = "float32"  # weights and arithmetic; "stored" as the model's files are

    def __call__(self, model: Model, tokens: Tokens) -> Scores:
        """Rows `bits_per_byte`, `perplexity` and `loss`; items of the first (weighted by bytes) and the last (by tokens): the documents.

        Raises:
            UserError: a window does not fit into the model, or the tokens are of another vocabulary.
            DataError: there is nothing to measure on, or the loss is not finite.
        """
        import polars as pl

        from paredown.engines import encoder_decoders, scoring

        module = scoring.load(model, self.precision)
        encoder_decoders.refuse(module, "perplexity", todo="measure.denoising measures both kinds")
        most = scoring.context_of(module)
        length = self.length or min(most, 2048)
        stride = self.stride or max(1, length // 2)
        if length > most:
            raise UserError(
                f"windows of {length:,} tokens do not fit: the model's context is {most:,}", todo="leave length out, or make it smaller"
            )
        if stride > length:
            raise UserError(f"a stride of {stride:,} skips tokens: windows are {length:,} long", todo="make stride at most length")
        scoring.check_vocabulary(model, tokens, scoring.vocabulary(module))
        chosen = scoring.first_documents(tokens, self.max_tokens)
        found = scoring.nats(module, tokens, chosen, length=length, stride=stride, batch=self.batch)
        said = found.text_bytes > 0  # a document without text has no byte that its end could be counted to
        documents, losses, counts, sizes = (column[said] for column in (found.documents, found.nats, found.tokens, found.text_bytes))
        nats, count, size = float(losses.sum()), int(counts.sum()), int(sizes.sum())
        if not count or not size:
            raise DataError("the documents to measure on hold no text", where=str(tokens.path))
        context().charge(flops=found.flops, how="forward, counted", tokens=found.read, documents=len(chosen))
        context().facts.update(
            documents=len(documents), documents_left_out=len(tokens.offsets) - 1 - len(documents), predicted_tokens=count, text_bytes=size,
            length=length, stride=stride, precision=str(next(module.parameters()).dtype).removeprefix("torch."),
        )  # fmt: skip
        loss = nats / count
        rows = [
            ("bits_per_byte", bits_per_byte(nats, size), "bits/byte"),
            ("perplexity", _exp(loss), "per token"),
            ("loss", loss, "nats/token"),
        ]
        cost = {"subject": model.identity, "n": len(documents), "flops": found.flops, "tokens": found.read}
        scores = [Score.model_validate({"metric": name, "value": value, "unit": unit, **cost}) for name, value, unit in rows]
        weights = {"bits_per_byte": sizes, "loss": counts}
        totals = {"bits_per_byte": losses.astype("float64") / math.log(2), "loss": losses.astype("float64")}
        items = pl.concat(
            pl.DataFrame(
                {"metric": [name] * len(documents), "item": documents.astype("int64"), "value": totals[name] / weight, "weight": weight}
            ).with_columns(pl.col("weight").cast(pl.Float64))
            for name, weight in weights.items()
        )
        return Scores.write(context().output("scores"), scores, items)


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
