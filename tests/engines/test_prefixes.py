"""Shared beginnings: the forest spells every text, shares what is long enough and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from paredown.engines.prefixes import forest


def spelled(roots, texts):
    """Text number -> (its ids along its path, shared lengths)."""
    found = {}

    def go(stretch, before):
        path = [*before, stretch]
        for text in stretch.texts:
            assert text not in found
            found[text] = [token for each in path for token in texts[each.of][each.start : each.end]]
        for child in stretch.children:
            assert child.start == stretch.end
            go(child, path)

    for root in roots:
        assert root.start == 0
        go(root, [])
    return found


texts_of = some.lists(some.lists(some.integers(0, 1), max_size=8), max_size=12)


@given(texts_of, some.integers(0, 4))
def test_every_text_is_spelled_along_its_path(texts, least):
    roots = forest(texts, least)
    assert spelled(roots, texts) == dict(enumerate(texts))
    for root in roots:
        for stretch in root.walk():
            if stretch.children:
                assert stretch.length >= least > 0
                assert len(stretch.children) + len(stretch.texts) > 1
    if not least:
        assert [root.texts for root in roots] == [[number] for number in range(len(texts))]


@given(texts_of)
def test_with_a_least_of_one_no_two_branches_begin_alike(texts):
    """Then the forest is a trie, and its tokens are the distinct beginnings."""
    roots = forest(texts, 1)
    assert sum(root.total() for root in roots) == len({tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)})


def test_shared_twice_over():
    texts = [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 9], [5, 5], [1, 2, 3, 9]]
    roots = forest(texts, 3)
    first, other = roots
    assert (first.total(), other.total(), other.texts) == (3 + 3 + 1 + 1 + 1 + 1, 2, [3])
    assert first.length == 3
    assert sorted((child.length, sorted(child.texts)) for child in first.children) == [(1, [2]), (1, [4]), (3, [])]
    deeper = next(child for child in first.children if child.children)
    assert sorted((child.length, child.texts) for child in deeper.children) == [(1, [0]), (1, [1])]


def test_long_texts_do_not_recurse_deeply():
    texts = [[0] * length for length in range(1, 1500, 7)]
    roots = forest(texts, 64)
    assert spelled(roots, texts) == dict(enumerate(texts))
