"""What functions say of themselves, as questions and answers."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.artifacts.corpus import Corpus
from paredown.core.strategy import Count, Strategy

if TYPE_CHECKING:
    import polars

Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def documented(tree: ast.AST, within: str = "") -> Iterator[tuple[str, Documented]]:
    """(dotted name, definition) of all that is public in a syntax tree, in the order of the source; what is defined within functions is left out."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, Documented):
            if not isinstance(node, ast.expr):
                yield from documented(node, within)
        elif not node.name.startswith("_"):
            name = f"{within}{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from documented(node, f"{name}.")


def questions(text: str, least_words: int) -> list[tuple[str, str]]:
    """(what is asked, the answer) for each definition whose docstring begins with a sentence of enough words; none where the text is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for name, node in documented(tree):
        paragraph = " ".join((ast.get_docstring(node) or "").strip().split("\n\n")[0].split())
        sentence = paragraph.partition(". ")[0].rstrip(".")
        if len(sentence.split()) >= least_words:
            asked = f"What is {name}?" if isinstance(node, ast.ClassDef) else f"What does {name}({ast.unparse(node.args)}) do?"
            found.append((f"Question: {asked}\nAnswer:", f" {sentence}.\n"))
    return found


def rewritten(frame: polars.DataFrame, least_words: int, apart: bool) -> polars.DataFrame:
    """The questions of each document: one row for all of them, or one for each."""
    import polars as pl

    rows: list[dict[str, Any]] = []
    for key, text in frame.select("id", "text").iter_rows():
        made = questions(text, least_words)
        if apart:
            rows += [
                {"id": f"{key}#{number}", "question": asked, "text": answer, "source": key} for number, (asked, answer) in enumerate(made)
            ]
        elif made:
            rows.append({"id": f"{key}#questions", "text": "".join(asked + answer for asked, answer in made), "source": key})
    names = ["id", "question", "text", "source"] if apart else ["id", "text", "source"]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))


class Docstrings(Strategy):
    """Rewrite Python sources as questions about their public functions and classes, with the first sentences of the docstrings as answers.

    Rules instead of a model that rephrases: nothing is added to what the source says, and writing costs nothing. With
    `apart` each question is a document whose column `question` stands before its answer, so that answers alone can be asked for
    (`corpus.tokenize.encode` with `given: question`). The column `source` names the document that it is from.

    Source: Maini et al. 2024, arXiv 2401.16380, section 3 (its question-answer style), by rules of our own.
    Costs: parsing, some 3 MB a second and core.
    Control: none (the corpus itself, or more of it)
    Not for: sources that say nothing of themselves; they are left out.
    """

    tags: ClassVar[tuple[str, ...]] = ("when-before", "what-data", "speedup-universal")
    systems: ClassVar[tuple[int, ...]] = (28,)

    least_words: Count = 3  # of an answer; shorter ones are left out
    apart: bool = False  # every question a document of its own

    def external(self) -> list[int]:
        """The grammar's version."""
        import sys

        return list(sys.version_info[:3])

    def __call__(self, corpus: Corpus) -> Corpus:
        from paredown.engines.documents import map_documents

        return map_documents(corpus, rewritten, self.least_words, self.apart)
