"""Vectors of a server that does wrong on demand: in the order of the texts, believed only when they can be, asked for and paid for once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering_server import Server, pieces, vector_of  # type: ignore[import-not-found]
from pydantic import ValidationError

from paredown.core.context import Context, running
from paredown.core.errors import DataError, UserError
from paredown.engines.embedder import opened
from paredown.infer.embedders.endpoint import Endpoint

TEXTS = [f"text number {n} of some" for n in range(11)]


def embed(server: Server, texts: Sequence[str], folder: Path, **knobs: Any) -> tuple[Any, Context]:
    folder.mkdir(exist_ok=True)
    part = Endpoint(**{"base_url": server.url, "model": "m", "backoff": 0.02, "timeout": 20.0, "batch": 4, **knobs})
    step = Context(folder / "out", folder, shared=folder)
    with running(step), opened(part, []) as embedding:
        return embedding(texts), step


def expected(texts: Sequence[str], width: int = 5) -> Any:
    rows = np.array([vector_of(text, width) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_request_says_what_is_wanted_and_vectors_come_in_order(tmp_path: Path) -> None:
    with Server() as server:
        found, step = embed(server, [*TEXTS, TEXTS[0], ""], tmp_path, dimensions=7, price=2.0, currency="EUR")
        bodies = [seen["body"] for seen in server.seen]
        assert all(seen["path"] == "/v1/embeddings" for seen in server.seen)
    np.testing.assert_allclose(found, expected([*TEXTS, TEXTS[0], " "], 7), rtol=1e-5)
    sent = [*TEXTS, " "]
    assert sorted(body["input"] for body in bodies) == sorted(sent[start : start + 4] for start in (0, 4, 8))
    assert all({**body, "input": 0} == {"model": "m", "input": 0, "encoding_format": "float", "dimensions": 7} for body in bodies)
    tokens = sum(len(pieces(text)) for text in sent)
    assert step.cost.tokens == tokens
    assert (step.cost.money, step.cost.currency) == (pytest.approx(tokens * 2e-6), "EUR")
    assert [fact["texts"] for fact in step.facts["embedded"].values()] == [12]


def test_a_text_is_paid_for_once_and_charged_wherever_it_is_used(tmp_path: Path) -> None:
    with Server() as server:
        first, one = embed(server, TEXTS[:6], tmp_path, price=1.0)
        second, two = embed(server, TEXTS[3:], tmp_path, price=1.0)
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 11
        assert (first[3:] == second[:3]).all()
        assert (one.cost.tokens, two.cost.tokens) == tuple(sum(len(pieces(t)) for t in some) for some in (TEXTS[:6], TEXTS[3:]))
        unpriced, step = embed(server, TEXTS, tmp_path)
        assert step.cost.money is None
        assert step.cost.tokens == sum(len(pieces(text)) for text in TEXTS)
        other, _ = embed(server, TEXTS[:1], tmp_path, version="2")
        assert server.paid[TEXTS[0]] == 2, "another version is asked anew"
        assert (other == unpriced[:1]).all()


FAULTS = ["429:0.05", "500", "slow:0.2", "drop", "cut", "truncated", "malformed", "empty", "few", "odd", "ragged"]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_for_a_while_is_tried_again(tmp_path: Path, fault: str) -> None:
    with Server(faults=[fault]) as server:
        found, _ = embed(server, TEXTS[:3], tmp_path, timeout=0.1 if "slow" in fault else 20.0)
        assert len(server.seen) == 2
    np.testing.assert_allclose(found, expected(TEXTS[:3]), rtol=1e-5)


@pytest.mark.parametrize("fault", ["no counts", "wrong counts"])
def test_counts_that_cannot_be_are_estimated(tmp_path: Path, fault: str) -> None:
    with Server(faults=[fault]) as server:
        _, step = embed(server, TEXTS[:3], tmp_path)
    assert step.cost.tokens == round(sum(len(text.encode()) for text in TEXTS[:3]) / 4)


def test_what_does_not_get_better_stops_the_step_and_a_later_run_asks_for_the_rest(tmp_path: Path) -> None:
    with Server(key="right") as server, pytest.raises(UserError, match="refuses requests without a key"):
        embed(server, TEXTS, tmp_path)
    with Server(faults=["few"] * 3) as server, pytest.raises(DataError, match="does not hold 3 vectors"):
        embed(server, TEXTS[:3], tmp_path, retries=2)
    many = [f"{n}" for n in range(600)]
    with Server() as server:
        embed(server, many[:512], tmp_path, batch=256)
        server.faults = ["400"]
        with pytest.raises(UserError, match="refuses a question"):
            embed(server, many, tmp_path, batch=256)
        server.seen.clear()
        embed(server, many, tmp_path, batch=256)
        assert [len(seen["body"]["input"]) for seen in server.seen] == [88], "what was stored is not asked for again"


def test_widths_must_agree(tmp_path: Path) -> None:
    with Server(faults=["ragged"]) as server, pytest.raises(DataError, match="several widths: \\[1, 5\\]"):
        embed(server, TEXTS[:2], tmp_path, batch=1, concurrency=1)
    with Server(faults=["ragged"]) as server:
        embed(server, TEXTS[:1], tmp_path)
        with pytest.raises(DataError, match="different widths"):
            embed(server, TEXTS[:2], tmp_path)


def test_an_address_holds_no_secret() -> None:
    with pytest.raises(ValidationError, match="no user or password"):
        Endpoint(base_url="https://me:secret@example.com/v1", model="m")
