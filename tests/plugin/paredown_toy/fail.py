from __future__ import annotations

import errno
from typing import Literal

from paredown.artifacts.corpus import Corpus
from paredown.core.errors import DataError
from paredown.core.strategy import Strategy


class Fail(Strategy):
    """Fail in a chosen way.

    Source: none (ours).
    Costs: nothing.
    Control: toy.numbers
    """

    how: Literal["foreign", "data", "disk", "memory"] = "foreign"  # what is raised

    def __call__(self, corpus: Corpus) -> Corpus:
        if self.how == "data":
            raise DataError("the third document is blue", where="shard-00000", todo="paint it")
        if self.how == "disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.how == "memory":
            raise MemoryError
        raise ZeroDivisionError("something foreign")
