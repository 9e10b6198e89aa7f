"""Words, lines and paragraphs of documents, straight from Arrow string buffers, without the GIL.

A batch of documents is `values` (uint8, UTF-8) and `offsets` (int64, one more than documents). Words are those of
`re.findall(r"\\w+|[^\\w\\s]", text)`: runs of word characters, and every other character that is no white space on its own.
Which character is what comes from one table over all code points, made from the interpreter's own Unicode data.

All compiled functions of this file stand in this file, and none is called from a compiled function elsewhere: numba's
cache looks at the time stamp of one file only, so a callee in another file could go stale.
"""

from __future__ import annotations

import functools
import string
import unicodedata

import numba
import numpy as np
import numpy.typing as npt

from paredown.engines.compiled import OPTIONS

WORD, SPACE, ALPHA, SOLID, BREAK, WIDE = 1, 2, 4, 8, 16, 32  # bits of a character's class; WIDE marks bytes of non-ASCII
COUNTS = (
    "characters",
    "words",
    "solid_words",
    "solid_characters",
    "hashes",
    "ellipses",
    "lines",
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",
    "stop_words",
)
SEGMENTS = (
    "paragraphs",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "segments",
    "duplicate_lines",
    "duplicate_line_characters",
)

K0 = np.uint64(0x9E3779B97F4A7C15)
K1 = np.uint64(0xBF58476D1CE4E5B9)
K2 = np.uint64(0x94D049BB133111EB)
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
HIGH = np.uint64(0x8080808080808080)


@functools.cache
def character_classes() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """(class of every code point, class of every byte that starts a character; WIDE from 128 on).

    WORD is `\\w`, SPACE is `\\s`, ALPHA is `str.isalpha`, BREAK is where `str.splitlines` breaks. SOLID is what makes a word
    more than a symbol: anything but punctuation (Unicode P*, Cc and the ASCII signs). Takes about 50 ms, once a process.
    """
    points = np.arange(0x110000, dtype=np.uint32)
    points[0xD800:0xE000] = 0  # surrogates are no characters in UTF-8
    text = points.view("<U1")
    alphanumeric = np.strings.isalnum(text)
    classes = np.where(alphanumeric, WORD | SOLID, SOLID).astype(np.uint8)
    classes[np.strings.isalpha(text)] |= ALPHA
    classes[np.strings.isspace(text)] = SPACE
    for sign in range(0x20000):  # beyond it Unicode has ideographs, tags and private use only
        if not classes[sign] & (WORD | SPACE) and unicodedata.category(chr(sign))[0:2] in PUNCTUATION:
            classes[sign] = 0
    for sign_text in string.punctuation + "\0":
        classes[ord(sign_text)] = 0
    classes[ord("_")] = WORD
    for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        classes[ord(end)] |= BREAK
    leads = np.full(256, WIDE, dtype=np.uint8)
    leads[:128] = classes[:128]
    return classes, leads


PUNCTUATION = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cc"})


@numba.njit(**OPTIONS)
def _eight(values, at):  # type: ignore[no-untyped-def]
    """Eight bytes as one little-endian number; LLVM makes one load of it."""
    return (
        np.uint64(values[at])
        | np.uint64(values[at + np.uint64(1)]) << np.uint64(8)
        | np.uint64(values[at + np.uint64(2)]) << np.uint64(16)
        | np.uint64(values[at + np.uint64(3)]) << np.uint64(24)
        | np.uint64(values[at + np.uint64(4)]) << np.uint64(32)
        | np.uint64(values[at + np.uint64(5)]) << np.uint64(40)
        | np.uint64(values[at + np.uint64(6)]) << np.uint64(48)
        | np.uint64(values[at + np.uint64(7)]) << np.uint64(56)
    )


@numba.njit(**OPTIONS)
def _finish(state, tail):  # type: ignore[no-untyped-def]
    mixed = (state ^ tail) * K1
    mixed = (mixed ^ (mixed >> np.uint64(32))) * K2
    return mixed ^ (mixed >> np.uint64(29))


@numba.njit(**OPTIONS)
def _hash_bytes(values, start, stop):  # type: ignore[no-untyped-def]
    """A 64-bit hash of values[start:stop]; equal bytes, equal hash."""
    at = np.uint64(start)
    left = np.uint64(stop - start)
    state = left * K0
    eight = np.uint64(8)
    while left > eight:
        state = (state ^ _eight(values, at)) * K1
        state ^= state >> np.uint64(32)
        at += eight
        left -= eight
    tail = np.uint64(0)
    if left > np.uint64(0):
        if at + eight <= np.uint64(values.size):
            tail = _eight(values, at) & (ONES >> (np.uint64(64) - eight * left))
        else:
            for k in range(left):
                tail |= np.uint64(values[at + np.uint64(k)]) << np.uint64(8 * k)
    return _finish(state, tail)


@numba.njit(**OPTIONS)
def _decode(values, at):  # type: ignore[no-untyped-def]
    """(code point, bytes) of the character of two bytes or more that starts at `at`; the buffer is valid UTF-8."""
    lead = np.uint32(values[at])
    second = np.uint32(values[at + np.uint64(1)]) & np.uint32(63)
    if lead < np.uint32(0xE0):
        return (lead & np.uint32(31)) << np.uint32(6) | second, np.uint64(2)
    third = np.uint32(values[at + np.uint64(2)]) & np.uint32(63)
    if lead < np.uint32(0xF0):
        return (lead & np.uint32(15)) << np.uint32(12) | second << np.uint32(6) | third, np.uint64(3)
    fourth = np.uint32(values[at + np.uint64(3)]) & np.uint32(63)
    return (lead & np.uint32(7)) << np.uint32(18) | second << np.uint32(12) | third << np.uint32(6) | fourth, np.uint64(4)


@numba.njit(**OPTIONS)
def scan_words(values, offsets, classes, leads, stop_keys, stop_seen, hashes, ends, word_offsets, counts):  # type: ignore[no-untyped-def]
    """Split every document into words; False where `hashes` has no room (nothing to keep, come again with more).

    hashes[w] is the hash of word w, ends[w + 1] - ends[w] its characters; word_offsets[d]..word_offsets[d + 1] are the
    words of document d; counts[d] are the numbers named in COUNTS. stop_keys is a table of word hashes (0: empty) without
    collisions, stop_seen as many zeros.
    """
    room = hashes.size
    stop_mask = np.uint64(stop_keys.size - 1)
    one = np.uint64(1)
    w = 0
    ends[0] = 0
    word_offsets[0] = 0
    for d in range(offsets.size - 1):
        begin = np.uint64(offsets[d])
        stop = np.uint64(offsets[d + 1])
        i = begin
        line = begin  # where the current line began
        extra = np.uint64(0)  # continuation bytes: bytes that are no characters
        solid_words = marks = ellipses = lines = bullets = ellipsis_lines = alphabetic = stops = dots = 0
        solid_characters = np.int64(0)
        fresh = True  # nothing but white space on this line yet
        trailing = False  # the last sign on this line ends an ellipsis
        first_word = w
        while i < stop:
            c = values[i]
            k = leads[c]
            size = one
            point = np.uint32(c)
            if k & WIDE:
                point, size = _decode(values, i)
                k = classes[point]
                extra += size - one
            if k & WORD:
                start = i
                before = extra - (size - one)
                bits = k
                i += size
                while i < stop:
                    k = leads[values[i]]
                    if k & WORD:
                        i += one
                    elif k & WIDE:
                        point, size = _decode(values, i)
                        k = classes[point]
                        if not k & WORD:
                            break
                        i += size
                        extra += size - one
                    else:
                        break
                    bits |= k
                if w >= room:
                    return False
                length = np.int64(i - start) - np.int64(extra - before)
                key = _hash_bytes(values, start, i)
                hashes[w] = key
                ends[w + 1] = ends[w] + length
                w += 1
                if bits & SOLID:
                    solid_words += 1
                    solid_characters += length
                alphabetic += (bits & ALPHA) >> 2
                slot = key & stop_mask
                if stop_keys[slot] == key and stop_seen[slot] != d + 1:
                    stop_seen[slot] = d + 1
                    stops += 1
                fresh = False
                trailing = False
                dots = 0
                continue
            i += size
            if k & SPACE:
                dots = 0
                if k & BREAK:
                    if c == 10 and i - one > begin and values[i - np.uint64(2)] == 13:
                        line = i  # the second half of a line's end
                        continue
                    lines += 1
                    ellipsis_lines += trailing
                    fresh = True
                    trailing = False
                    line = i
                continue
            if w >= room:
                return False
            hashes[w] = _hash_bytes(values, i - size, i)
            ends[w + 1] = ends[w] + 1
            w += 1
            solid = (k & SOLID) >> 3
            solid_words += solid
            solid_characters += solid
            trailing = False
            if c == 46:
                dots += 1
                if dots >= 3:
                    trailing = True
                    if dots % 3 == 0:
                        ellipses += 1
            else:
                dots = 0
                marks += c == 35
                if point == 0x2026:
                    ellipses += 1
                    trailing = True
            if fresh:
                fresh = False
                bullets += c == 45 or point == 0x2022
        if stop > line:
            lines += 1
            ellipsis_lines += trailing
        word_offsets[d + 1] = w
        row = counts[d]
        row[0] = np.int64(stop - begin) - np.int64(extra)
        row[1] = w - first_word
        row[2] = solid_words
        row[3] = solid_characters
        row[4] = marks
        row[5] = ellipses
        row[6] = lines
        row[7] = bullets
        row[8] = ellipsis_lines
        row[9] = alphabetic
        row[10] = stops
    return True


@numba.njit(**OPTIONS)
def _characters(values, start, stop):  # type: ignore[no-untyped-def]
    """Characters of values[start:stop]: bytes that continue none."""
    count = 0
    at = np.uint64(start)
    eight = np.uint64(8)
    end = np.uint64(stop)
    while at + eight <= end:
        if _eight(values, at) & HIGH:
            for k in range(8):
                count += (values[at + np.uint64(k)] & 0xC0) != 0x80
        else:
            count += 8
        at += eight
    while at < end:
        count += (values[at] & 0xC0) != 0x80
        at += np.uint64(1)
    return count


@numba.njit(**OPTIONS)
def _duplicates(keys, sizes, count, table):  # type: ignore[no-untyped-def]
    """(how many of keys[:count] came before, the sum of their sizes). The table has a power of two above 2 * count."""
    bits = 3
    while (1 << bits) < 2 * count:
        bits += 1
    for k in range(1 << bits):
        table[k] = -1
    shift = np.uint64(64 - bits)
    mask = (1 << bits) - 1
    elements = characters = 0
    for j in range(count):
        slot = np.int64((keys[j] * K0) >> shift)
        while True:
            seen = table[slot]
            if seen < 0:
                table[slot] = j
                break
            if keys[seen] == keys[j]:
                elements += 1
                characters += sizes[j]
                break
            slot = (slot + 1) & mask
    return elements, characters


@numba.njit(**OPTIONS)
def scan_segments(values, offsets, classes, keys, sizes, table, out):  # type: ignore[no-untyped-def]
    """Repeated lines and paragraphs of every document as numbers named in SEGMENTS; False where `keys` has no room.

    Lines are `re.split(r"\n+", text)`, paragraphs `re.split(r"\n{2,}", text.strip())`.
    """
    room = keys.size - 2
    one = np.uint64(1)
    empty = _hash_bytes(values, 0, 0)
    for d in range(offsets.size - 1):
        begin = np.uint64(offsets[d])
        stop = np.uint64(offsets[d + 1])
        if begin == stop:
            out[d, :] = 0
            out[d, 0] = 1
            out[d, 3] = 1
            continue
        count = 0
        if values[begin] == 10:
            keys[0] = empty
            sizes[0] = 0
            count = 1
        i = begin
        while i < stop:
            if values[i] == 10:
                i += one
                continue
            start = i
            while i < stop and values[i] != 10:
                i += one
            if count >= room:
                return False
            keys[count] = _hash_bytes(values, start, i)
            sizes[count] = _characters(values, start, i)
            count += 1
        if values[stop - one] == 10:
            keys[count] = empty
            sizes[count] = 0
            count += 1
        out[d, 3] = count
        out[d, 4], out[d, 5] = _duplicates(keys, sizes, count, table)

        while begin < stop:  # strip
            point, size = np.uint32(values[begin]), one
            if point >= 128:
                point, size = _decode(values, begin)
            if not classes[point] & SPACE:
                break
            begin += size
        while stop > begin:
            i = stop - one
            while (values[i] & 0xC0) == 0x80:
                i -= one
            point = np.uint32(values[i])
            if point >= 128:
                point, size = _decode(values, i)
            if not classes[point] & SPACE:
                break
            stop = i
        count = 0
        i = begin
        start = begin
        while i < stop:
            if values[i] == 10 and values[i + one] == 10:  # stripped: the last byte is no line end
                keys[count] = _hash_bytes(values, start, i)
                sizes[count] = _characters(values, start, i)
                count += 1
                while values[i] == 10:
                    i += one
                start = i
            else:
                i += one
        if count:
            keys[count] = _hash_bytes(values, start, stop)
            sizes[count] = _characters(values, start, stop)
        count += 1
        out[d, 0] = count
        if count > 1:
            out[d, 1], out[d, 2] = _duplicates(keys, sizes, count, table)
        else:
            out[d, 1] = out[d, 2] = 0
    return True
