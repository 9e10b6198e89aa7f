"""Document work side by side with datatrove: Gopher quality and repetition rules, MinHash signatures, word counts.

    python benchmarks/documents.py --peer /path/to/datatrove-venv/bin/python [--size 200] [--peer-size 10] [--memory-size 2000]

Both sides read JSONL and write every document with its verdicts, word count and signature, in one process, and split words
by the same expression. Sizes are in MB. The peer works on a prefix of the same file. Figures are of CPU seconds of the work
alone (imports and the loading of compiled kernels left out; the second figure has them in). The peer's text
normalization before MinHash is off, so that both sides hash the same shingles; --normalize leaves it on.

To make the peer's environment: python -m venv datatrove-venv && datatrove-venv/bin/pip install "datatrove[io,processing]" tokenizers spacy
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = r"\w+|[^\w\s]"
LARGEST = 300_000  # characters of one document
NAMES = {  # the peer's reasons, in the order of our knobs
    "gopher_short_doc": "min_words",
    "gopher_long_doc": "max_words",
    "gopher_below_avg_threshold": "min_word_length",
    "gopher_above_avg_threshold": "max_word_length",
    "gopher_too_many_hashes": "max_hashes",
    "gopher_too_many_ellipsis": "max_ellipses",
    "gopher_too_many_bullets": "max_bullet_lines",
    "gopher_too_many_end_ellipsis": "max_ellipsis_lines",
    "gopher_below_alpha_threshold": "min_alphabetic_words",
    "gopher_enough_stop_words": "min_stop_words",
    "dup_para_frac": "max_duplicate_paragraphs",
    "dup_para_char_frac": "max_duplicate_paragraph_characters",
    "dup_line_frac": "max_duplicate_lines",
    "dup_line_char_frac": "max_duplicate_line_characters",
    **{f"top_{n}_gram": f"max_top_{n}_grams" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"max_repeated_{n}_grams" for n in range(5, 11)},
}


# the input ------------------------------------------------------------------------------------------------------------


def sources() -> Iterator[str]:
    """Sources and texts of the standard library and of installed packages, in a fixed order of paths."""
    roots = [sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]]
    kinds = {".py", ".md", ".rst", ".txt", ".json", ".pyi"}
    paths = {
        p for root in roots for p in Path(root).rglob("*") if (p.suffix in kinds or p.name == "METADATA") and "__pycache__" not in p.parts
    }
    for path in random.Random(0).sample(sorted(paths), len(paths)):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for at in range(0, min(len(text), 3 * LARGEST), LARGEST):
            yield text[at : at + LARGEST]


def mutated(text: str, draw: random.Random) -> str:
    """The text with a few lines dropped or repeated and about one word in two hundred replaced."""
    lines = text.split("\n")
    for _ in range(draw.randrange(3)):
        place = draw.randrange(len(lines))
        lines[place : place + 1] = [] if draw.random() < 0.5 else [lines[place]] * 2
        lines = lines or [""]
    parts = re.split(r"(\w+)", "\n".join(lines))
    for place in range(1, len(parts), 2):
        if draw.random() < 0.005:
            parts[place] = f"w{draw.randrange(10_000)}"
    return "".join(parts)


def make_input(path: Path, megabytes: float) -> int:
    """Write JSONL (id, text) of about this many MB; the same packages give the same file. Returns the documents."""
    import orjson

    draw, limit, written, number = random.Random(1), megabytes * 1e6, 0, 0
    with open(path, "wb") as stream:
        while written < limit:
            for text in sources():
                row = orjson.dumps({"id": str(number), "text": text if number % 3 else mutated(text, draw)}) + b"\n"
                stream.write(row)
                written += len(row)
                number += 1
                if written >= limit:
                    break
    return number


def prefix(source: Path, target: Path, megabytes: float) -> None:
    with open(source, "rb") as stream, open(target, "wb") as out:
        left = megabytes * 1e6
        for line in stream:
            out.write(line)
            left -= len(line)
            if left <= 0:
                return


# our side -------------------------------------------------------------------------------------------------------------


def work(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One range of lines of the JSONL: read, measure, judge, write."""
    import io

    import numpy as np
    import polars as pl

    from paredown.artifacts.corpus import write_shard
    from paredown.corpus.clean.gopher import Gopher, gopher_rules
    from paredown.engines import kernels, kernels_minhash

    with open(task["file"], "rb") as stream:
        stream.seek(task["begin"])
        data = stream.read(task["end"] - task["begin"])
    frame = pl.read_ndjson(io.BytesIO(data), schema={"id": pl.String, "text": pl.String})
    del data
    rules = gopher_rules(Gopher().knobs())
    names = list(rules)
    quality, lines, grams = names[: names.index("max_duplicate_paragraphs")], names[len(names) - 13 : len(names) - 9], names[-9:]

    def first(table: pl.DataFrame, some: list[str]) -> pl.Series:
        return table.select(reason=pl.coalesce(*(pl.when(rules[name]).then(pl.lit(name)) for name in some)))["reason"]

    def passed(counts: Any, segments: Any) -> Any:  # the peer too stops at the first broken rule
        return first(kernels.named(counts, segments), lines).is_null().to_numpy()

    measured = kernels.measure(frame["text"], segments=True, grams=passed, permutations=kernels_minhash.permutations(112, 1))
    table = measured.frame()
    np.save(folder / "signatures.npy", measured.signatures)
    judged = frame.with_columns(first(table, quality).alias("quality"), first(table, lines + grams).alias("repetition"), table["words"])
    return {"row": write_shard(folder / "shard.parquet", judged), "documents": frame.height}


def ranges(path: Path, size: int) -> list[dict[str, Any]]:
    """Byte ranges of about `size` that end at line ends."""
    found, begin, end = [], 0, path.stat().st_size
    with open(path, "rb") as stream:
        while begin < end:
            stream.seek(min(begin + size, end) - 1)
            stream.readline()
            found.append({"file": str(path), "shard": f"bytes from {begin}", "begin": begin, "end": stream.tell()})
            begin = stream.tell()
    return found


def ours(path: Path, out: Path, processes: int) -> dict[str, Any]:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    import polars as pl

    from paredown.core.context import Context, Engine, running
    from paredown.engines import kernels, kernels_minhash
    from paredown.engines.documents import run_shards

    kernels.measure(pl.Series(["warm up"]), segments=True, grams=True, permutations=kernels_minhash.permutations(112, 1))
    begun, cpu = time.perf_counter(), cpu_seconds()
    (out / "scratch").mkdir(parents=True)
    with running(Context(folder=out / "out", scratch=out / "scratch", engine=Engine(processes=processes))):
        done = run_shards("benchmark", ranges(path, 32_000_000), work)
    report = {"wall": time.perf_counter() - begun, "cpu": cpu_seconds() - cpu, "cpu_with_start": cpu_seconds(), "peak": peak_bytes()}
    kept = [pl.read_parquet(folder / "shard.parquet", columns=["id", "quality", "repetition", "words"]) for folder, _ in done]
    (out / "verdicts.json").write_text(
        json.dumps({row["id"]: [row["quality"], row["repetition"], row["words"]] for f in kept for row in f.to_dicts()})
    )
    return {**report, "documents": sum(record["documents"] for _, record in done)}


# the peer -------------------------------------------------------------------------------------------------------------


def peer(path: Path, out: Path, normalize: bool) -> dict[str, Any]:
    """Runs in the peer's environment; imports nothing of ours."""
    import datatrove.pipeline.dedup.minhash as minhash
    import datatrove.utils.word_tokenizers as tokenizers
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.text import TextNormConfig, split_into_words

    find = re.compile(WORDS).findall

    class Regex:
        def word_tokenize(self, text: str) -> list[str]:
            return find(text)

    for module in (tokenizers, minhash):
        module.load_word_tokenizer = lambda language: Regex()

    verdicts: dict[str, list[Any]] = {}

    class Judge(PipelineStep):
        name = "both filters, every document goes on"

        def __init__(self) -> None:
            super().__init__()
            self.filters = GopherQualityFilter(), GopherRepetitionFilter()

        def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
            for document in data:
                found = []
                for one in self.filters:
                    result = one.filter(document)
                    found.append(None if result is True else result[1])
                found.append(len(split_into_words(document.text)))
                document.metadata["verdict"] = found
                verdicts[document.id] = found
                yield document

    off = TextNormConfig(
        lowercase=False, norm_whitespace=False, remove_punctuation=False, norm_unicode_diacritics=False, norm_numbers=False
    )
    config = minhash.MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, norm_config=TextNormConfig() if normalize else off)
    begun, cpu = time.perf_counter(), cpu_seconds()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(path.parent), glob_pattern=path.name),
            Judge(),
            JsonlWriter(str(out / "written"), compression=None),
            minhash.MinhashDedupSignature(str(out / "signatures"), config=config),
        ],
        tasks=1,
        workers=1,
        logging_dir=str(out / "logs"),
    ).run()
    report = {"wall": time.perf_counter() - begun, "cpu": cpu_seconds() - cpu, "cpu_with_start": cpu_seconds(), "peak": peak_bytes()}
    (out / "verdicts.json").write_text(json.dumps(verdicts))
    return {**report, "documents": len(verdicts)}


# both -----------------------------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def peak_bytes() -> int:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024


def run_side(python: str, side: str, path: Path, out: Path, *more: str) -> dict[str, Any]:
    out.mkdir(parents=True)
    done = subprocess.run([python, __file__, "--side", side, str(path), str(out), *more], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the side {side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rate = path.stat().st_size / 1e6 / found["cpu"]
    print(
        f"{side:<9} {path.stat().st_size / 1e6:8.1f} MB  {found['documents']:>7} documents  {rate:7.2f} MB/s per core"
        f"  ({path.stat().st_size / 1e6 / found['cpu_with_start']:.2f} with start-up)  wall {found['wall']:.1f} s  peak {found['peak'] / 1e6:,.0f} MB",
        flush=True,
    )
    return {**found, "rate": rate}


def agreement(left: Path, right: Path) -> dict[str, float]:
    """Shares of the peer's documents on which both sides say the same."""
    a, b = json.loads((left / "verdicts.json").read_text()), json.loads((right / "verdicts.json").read_text())
    n = len(b)
    return {
        "quality verdict": sum((a[k][0] is None) == (b[k][0] is None) for k in b) / n,
        "repetition verdict": sum((a[k][1] is None) == (b[k][1] is None) for k in b) / n,
        "quality reason": sum(a[k][0] == NAMES.get(b[k][0], b[k][0]) for k in b) / n,
        "repetition reason": sum(a[k][1] == NAMES.get(b[k][1], b[k][1]) for k in b) / n,
        "word count": sum(a[k][2] == b[k][2] for k in b) / n,
        "kept by quality": sum(b[k][0] is None for k in b) / n,
        "kept by repetition": sum(b[k][1] is None for k in b) / n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer", default=os.environ.get("DATATROVE_PYTHON"), help="python of an environment with datatrove (or DATATROVE_PYTHON)"
    )
    parser.add_argument("--size", type=float, default=200, help="MB for our side")
    parser.add_argument("--peer-size", type=float, default=10, help="MB for the peer")
    parser.add_argument("--memory-size", type=float, default=0, help="MB of a second run of ours, to see that its memory is flat")
    parser.add_argument("--repeats", type=int, default=3, help="runs of either side; the best counts, all are printed")
    parser.add_argument("--processes", type=int, default=1, help="processes of our side")
    parser.add_argument("--normalize", action="store_true", help="leave the peer's text normalization on")
    parser.add_argument("--folder", type=Path, help="where input and output go; default a temporary folder")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "INPUT", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        path, out = Path(given.side[1]), Path(given.side[2])
        found = ours(path, out, given.processes) if given.side[0] == "paredown" else peer(path, out, given.normalize)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary)
        whole, part = folder / "whole.jsonl", folder / "part.jsonl"
        print(f"input: {make_input(whole, given.size):,} documents")
        prefix(whole, part, given.peer_size)
        mine = [
            run_side(sys.executable, "paredown", whole, folder / f"ours-{k}", "--processes", str(given.processes))
            for k in range(given.repeats)
        ]
        if given.memory_size:
            large = folder / "large.jsonl"
            make_input(large, given.memory_size)
            run_side(sys.executable, "paredown", large, folder / "large", "--processes", str(given.processes))
            large.unlink()
        if given.peer:
            more = ["--normalize"] if given.normalize else []
            theirs = [run_side(given.peer, "datatrove", part, folder / f"peer-{k}", *more) for k in range(given.repeats)]
            best, other = max(m["rate"] for m in mine), max(t["rate"] for t in theirs)
            print(f"ratio of the best runs: {best / other:.1f}")
            for name, share in agreement(folder / "ours-0", folder / "peer-0").items():
                print(f"  {name:<20} {share:.4%}")


if __name__ == "__main__":
    main()
