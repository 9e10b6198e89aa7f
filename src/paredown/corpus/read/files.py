"""Documents from files: JSON lines, Parquet, CSV, text, Hugging Face datasets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from paredown.artifacts.corpus import Read
from paredown.core.strategy import Strategy


class Files(Strategy):
    """Read documents from a file, a folder, a pattern such as `data/*.jsonl.gz`, or a data set of the Hugging Face hub.

    Known are JSON lines (.jsonl, .ndjson, .json), CSV (.csv, .tsv; first line names), both also as .gz and .zst, Parquet, text
    files of any ending (one document each), folders that `datasets.save_to_disk` wrote, and `hub:owner/name`. What cannot be read is
    counted and, where asked for, kept with reason and place: invalid_utf8, bad_json, no_object, no_text (no such column or null),
    text_not_string, empty_text, bad_row (CSV), broken_file (a torn archive: what came before the tear is read), unreadable,
    unknown_format. Blank lines are no documents. Any other text is kept as it is, NUL characters too.

    Source: none (ours).
    Costs: one pass over the files; memory of one shard (48 MB of text), or of the longest document.
    Control: none (it is an input).
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-none")

    path: str  # a file, a folder, a pattern with * or **, or hub:owner/name
    format: Literal["auto", "jsonl", "csv", "parquet", "text", "datasets"] = "auto"  # auto: by each file's name
    text: str = "text"  # column that holds the text
    id: str = ""  # column that holds the id; without one, ids are made of the file's name and the place in it
    columns: tuple[str, ...] = ()  # columns to keep beside them, as text (JSON where a value is no string)
    split: str = "train"  # which split of a Hugging Face data set
    keep_rejected: bool = False  # keep what could not be read, with the reason and the place, as the part `rejected`

    def external(self) -> Any:
        """A fingerprint of names, sizes and times of the files; of a hub data set the name only."""
        from paredown.engines import reading

        return reading.fingerprint(self.path)

    def estimate(self, inputs: dict[str, Any]) -> dict[str, float]:
        from paredown.engines import reading

        size = reading.total_bytes(self.path)
        return {"seconds": size / 1e8, "disk": 0.5 * size}

    def __call__(self) -> Read:
        """The documents in the order of the files' names, and what could not be read.

        Raises:
            UserError: nothing matches the path, or there is no such column or split.
            MissingExtra: a hub data set without the extra `hub`.
        """
        from paredown.engines import reading
        from paredown.engines.formats import Wanted

        wanted = Wanted(self.text, self.id, self.columns)
        return reading.read(self.path, self.format, self.split, wanted, keep_rejected=self.keep_rejected)
