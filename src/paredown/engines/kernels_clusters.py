"""Candidate pairs from equal bands, union-find and the greedy choice of what is kept, compiled, without the GIL.

As in kernels_text.py no compiled function here calls one of another file.
"""

from __future__ import annotations

import numba
import numpy as np

from paredown.engines.compiled import OPTIONS

NEAR = 32  # in a band that more than 2 * NEAR different signatures share, each meets the first NEAR and the last NEAR before it


@numba.njit(**OPTIONS)
def candidate_pairs(keys, documents, digests, left, right):  # type: ignore[no-untyped-def]
    """How many pairs of documents share a band; the first `left.size` of them in left (the earlier) and right.

    Rows are sorted by (key, digest, document). Equal digests mean equal signatures: only the first such document of a band
    meets documents with other digests, the others meet only that one, so that m copies make m pairs and not m^2.
    """
    count = 0
    n = keys.size
    leaders = np.empty(64, np.int64)
    start = 0
    while start < n:
        stop = start
        different = 0
        while stop < n and keys[stop] == keys[start]:
            if stop == start or digests[stop] != digests[stop - 1]:
                if different == leaders.size:
                    larger = np.empty(2 * different, np.int64)
                    larger[:different] = leaders
                    leaders = larger
                leaders[different] = documents[stop]
                different += 1
            else:
                if count < left.size:
                    left[count] = leaders[different - 1]
                    right[count] = documents[stop]
                count += 1
            stop += 1
        if different > 1:
            group = leaders[:different]
            group.sort()
            for j in range(1, different):
                for i in range(min(j, NEAR)):
                    if count < left.size:
                        left[count] = group[i]
                        right[count] = group[j]
                    count += 1
                for i in range(max(NEAR, j - NEAR), j):
                    if count < left.size:
                        left[count] = group[i]
                        right[count] = group[j]
                    count += 1
        start = stop
    return count


@numba.njit(**OPTIONS)
def components(size, left, right):  # type: ignore[no-untyped-def]
    """The least member of every node's connected component, for nodes 0..size - 1."""
    parent = np.arange(size)
    for p in range(left.size):
        a = left[p]
        b = right[p]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for node in range(size):  # a parent is never larger than its child, so one pass from below settles all
        parent[node] = parent[parent[node]]
    return parent


@numba.njit(**OPTIONS)
def keep_greedily(order, starts, neighbours, similarities, duplicate_of, similarity):  # type: ignore[no-untyped-def]
    """Walk the nodes in `order`: a node is dropped only if it is like a node that was kept.

    neighbours[starts[v]:starts[v + 1]] are the nodes like v. A dropped node gets the most similar kept node (of equal ones
    the first in `order`) in duplicate_of and its similarity; a kept one -1 and 0.
    """
    rank = np.empty(order.size, np.int64)
    for r in range(order.size):
        rank[order[r]] = r
    for r in range(order.size):
        v = order[r]
        best = -1
        best_similarity = 0.0
        for e in range(starts[v], starts[v + 1]):
            u = neighbours[e]
            if rank[u] < r and duplicate_of[u] < 0:
                s = similarities[e]
                if best < 0 or s > best_similarity or (s == best_similarity and rank[u] < rank[best]):
                    best = u
                    best_similarity = s
        duplicate_of[v] = best
        similarity[v] = best_similarity
