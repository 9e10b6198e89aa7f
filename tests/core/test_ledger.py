"""The ledger: one written before money was counted goes on."""

import sqlite3
from pathlib import Path

from paredown.core import ledger
from paredown.core.ledger import Ledger


def test_a_ledger_of_before_gets_the_columns_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    old = ledger.SCHEMA.replace(", money real, currency text", "")
    assert old != ledger.SCHEMA
    with sqlite3.connect(path) as connection:
        connection.executescript(old)
        connection.execute("insert into steps (key, strategy, finished, facts, folder) values ('k', 's', 1.0, '{}', 'f')")
    connection.close()
    for _ in range(2):  # the second time they are there
        Ledger(path).step("new", "s", "f", {"money": 1.5, "currency": "EUR"}, {}, None, {}, {})
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select key, money, currency, folder from steps order by key").fetchall()
    connection.close()
    assert rows == [("k", None, None, "f"), ("new", 1.5, "EUR", "f")]
