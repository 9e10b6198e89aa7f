"""Training throughput side by side with a bare PyTorch loop and with the Hugging Face Trainer, in tokens that are predicted.

    python benchmarks/trainer.py [--rounds 5] [--work small large skewed] [--precision fp32 bf16] [--steps 50] [--threads 1]

Every measurement is a child process of its own; rounds are interleaved, every second one in reverse order. All sides train the
same Llama from the same random weights by AdamW (fused, same groups) with clipping at a constant learning rate, in fp32 and, where
the CPU multiplies bf16 natively, under bf16 autocast; attention is torch's own (sdpa) on every side.

small, large    The same batches of full rows on every side. `bare` is the floor: forward, loss, backward, clip, step, with all
                batches in memory as tensors, nothing logged. `hf` is the Trainer over the same list of batches, in order, no
                logging, no saving, no evaluation. `ours` is `engines.trainer.fit` as `learn.train` calls it: batches are made in
                the loop, losses logged, FLOPs counted, checkpoints taken every 20 seconds.
skewed          Documents of lognormal lengths, cut at the context. `ours` packs them, `bare` gets the same packed batches.
                `hf-padded` is the Trainer with its own collator, which pads each batch to its longest document; `hf-grouped` has
                documents of like lengths in a batch besides. Batches hold as many documents as predict about the same number of
                tokens. Only tokens that are predicted count.

The clock runs from the end of the last warm-up step to the end of the last step, on every side; imports, the first batches (on which
our side counts FLOPs) and what comes after the last step are outside. `hf-grouped` sorts within 50 batches, so that the clock should
run over 50 steps there. Two more figures stand beside the ratios, as a neighbour's load disturbs them less: the ratio of the medians
of single steps (without checkpoints), and that of CPU seconds a token (waiting threads spin, so read it with --threads 1). Losses of
every step are compared between ours and bare; their mean between ours and hf.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

RATE, BETA1, BETA2, EPSILON, DECAY, CLIP, IGNORED = 1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0, -100


@dataclass(frozen=True)
class Work:
    """A model and how it is trained."""

    shape: dict[str, int]  # knobs of learn.models.llama
    vocabulary: int
    rows: int
    length: int
    warm: int  # steps before the clock
    steps: int  # steps under the clock
    sides: tuple[str, ...] = ("bare", "ours", "hf")
    targets: tuple[tuple[str, str, float | None], ...] = (("ours", "bare", 0.97), ("ours", "hf", 1.0))


QUICKSTART = {"hidden_size": 128, "layers": 3, "heads": 4, "intermediate_size": 344}
WORK = {
    "small": Work({**QUICKSTART, "max_length": 128}, 512, 16, 128, 20, 200),
    "large": Work({"hidden_size": 320, "layers": 7, "heads": 5, "intermediate_size": 928, "max_length": 256}, 4096, 8, 256, 2, 20),
    "skewed": Work(
        {**QUICKSTART, "max_length": 512}, 512, 4, 512, 10, 50,
        ("bare", "ours", "hf-padded", "hf-grouped"),
        (("ours", "bare", 0.97), ("ours", "hf-padded", 2.0), ("ours", "hf-grouped", None)),
    ),
}  # fmt: skip


@dataclass
class Seen:
    """What a side did: when each step ended, what it predicted, and its loss."""

    ends: list[tuple[float, float]] = field(default_factory=list)  # wall and CPU seconds
    tokens: list[int] = field(default_factory=list)  # predicted in each step
    losses: list[float] = field(default_factory=list)  # nats; of all steps one mean where the side tells no more
    parameters: int = 0

    def end(self) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


# the input, made once in a process of its own -------------------------------------------------------------------------


def make(folder: Path, work: Work, skewed: bool) -> None:
    """Tokens drawn by Zipf's law: documents of whole rows, or of lognormal lengths. The last id is for padding alone."""
    import numpy as np
    from tokenizers import Tokenizer, models

    from paredown.artifacts.tokens import END_OF_TEXT, Tokens

    names = [END_OF_TEXT, *(f"w{k}" for k in range(1, work.vocabulary - 1)), "<pad>"]
    draw = np.random.default_rng(0)
    share = 1 / np.arange(1, work.vocabulary - 1)
    share /= share.sum()
    if skewed:  # at least 250 batches, so that grouping by length has as much to sort as in a large corpus
        sizes = np.exp(draw.normal(np.log(64), 1.0, 250 * work.rows * work.length // 90)).astype(int).clip(4, work.length + 1)
    else:
        sizes = work.length * draw.integers(1, 9, 256) + 1
    documents = ((draw.choice(np.arange(1, work.vocabulary - 1), size=size - 2, p=share), 4 * int(size)) for size in sizes)
    words = Tokenizer(models.WordLevel({name: k for k, name in enumerate(names)}, unk_token=END_OF_TEXT))
    Tokens.write(folder, documents, tokenizer=words.to_str(), vocab_size=work.vocabulary)


# the sides, each in a child -------------------------------------------------------------------------------------------


def module_of(work: Work) -> Any:
    import torch

    from paredown.learn.models.llama import Llama

    torch.manual_seed(0)
    return Llama(**work.shape).build(work.vocabulary, 0)


def batches_of(work: Work, folder: Path) -> list[dict[str, Any]]:
    """The batches that our side makes in its loop, as tensors."""
    import torch

    from paredown.artifacts.tokens import Tokens
    from paredown.engines.batches import packed, shuffled_batch

    source = packed(Tokens(folder), work.length)
    made = (shuffled_batch(source, 0, index, work.rows) for index in range(work.warm + work.steps))
    return [{name: torch.tensor(value) for name, value in batch.items()} for batch in made]


def ours(work: Work, folder: Path, precision: str) -> Seen:
    """`learn.train` with its defaults, but for a learning rate that stays and a hook that looks at the clock."""
    from paredown.artifacts.tokens import Tokens
    from paredown.core.context import Context, running
    from paredown.engines import trainer, training
    from paredown.engines.batches import packed
    from paredown.engines.parts import Budget, Draw, Hook
    from paredown.learn.optimizers.adamw import Adamw
    from paredown.learn.schedules.warmup_stable_decay import WarmupStableDecay
    from paredown.learn.train import Train

    seen, losses = Seen(), []

    class Clock(Hook):
        def step(self, state: training.State) -> None:
            seen.end()
            seen.tokens.append(state.batch["predicted"])
            losses.append(state.loss.detach())

    strategy = Train(
        budget=Budget(steps=work.warm + work.steps), learning_rate=RATE, warmup=0.0, schedule=WarmupStableDecay(decay=1e-9),
        optimizer=Adamw(beta1=BETA1, beta2=BETA2, epsilon=EPSILON, weight_decay=DECAY), clip=CLIP,
        batch_size=work.rows, length=work.length, precision=precision, device="cpu",
    )  # fmt: skip
    setup = training.Setup(**{name: getattr(strategy, name) for name in training.Setup.__dataclass_fields__})
    setup = replace(setup, hooks=(Clock(),))
    source, module = packed(Tokens(folder), work.length), module_of(work)
    with tempfile.TemporaryDirectory() as temporary:
        step = Context(Path(temporary) / "out", Path(temporary) / "scratch", seed=0)

        def batches(state: training.State) -> dict[str, Any]:
            return source.fill(strategy.sampler.choose(source, Draw(0, state.step, work.rows)))

        with running(step):
            trainer.fit(module, batches, setup, seed=0, step=step)
    return replace(seen, losses=[float(loss) for loss in losses], parameters=module.num_parameters())


def bare(work: Work, folder: Path, precision: str) -> Seen:
    import torch
    from torch import nn

    batches, module = batches_of(work, folder), module_of(work)
    matrices, vectors = ([p for p in module.parameters() if (p.ndim >= 2) == two] for two in (True, False))
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True)
    module.train()
    seen, losses = Seen(), []
    for batch in batches:
        positions = {"position_ids": batch["positions"]} if "positions" in batch else {}
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
            logits = module(input_ids=batch["ids"], use_cache=False, **positions).logits
            loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["targets"].flatten(), ignore_index=IGNORED)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen.end()
        losses.append(loss.detach())
    tokens = [int((batch["targets"] != IGNORED).sum()) for batch in batches]
    return replace(seen, tokens=tokens, losses=[float(loss) for loss in losses], parameters=module.num_parameters())


def hugging_face(work: Work, folder: Path, precision: str, side: str) -> Seen:
    """The Trainer: over our batches one by one, or over documents with its own collator."""
    import transformers

    from paredown.artifacts.tokens import Tokens

    if side == "hf":
        rows: list[Any] = [
            {"input_ids": b["ids"], "labels": b["targets"], "shift_labels": b["targets"]}  # targets are shifted already
            | ({"position_ids": b["positions"]} if "positions" in b else {})
            for b in batches_of(work, folder)
        ]
        count, order = 1, "sequential"
    else:
        source = Tokens(folder)
        bounds, ids = source.offsets.tolist(), source.ids
        rows = [{"input_ids": ids[a:b].tolist()} for a, b in pairwise(bounds)]
        predicted = (source.tokens - len(rows)) / len(rows)  # of a document, on average
        count, order = round(work.rows * work.length / predicted), "random" if side == "hf-padded" else "group_by_length"
        words = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>")
        pad = transformers.DataCollatorForLanguageModeling(words, mlm=False)
    seen = Seen()

    def collate(chosen: list[Any]) -> Any:
        batch = chosen[0] if side == "hf" else pad(chosen)
        seen.tokens.append(int((batch["labels"][:, 0 if side == "hf" else 1 :] != IGNORED).sum()))
        return batch

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            seen.end()

    module = module_of(work)
    with tempfile.TemporaryDirectory() as temporary:
        settings = transformers.TrainingArguments(
            output_dir=temporary, max_steps=work.warm + work.steps, per_device_train_batch_size=count, dataloader_drop_last=True,
            train_sampling_strategy=order, learning_rate=RATE, lr_scheduler_type="constant", optim="adamw_torch_fused",
            adam_beta1=BETA1, adam_beta2=BETA2, adam_epsilon=EPSILON, weight_decay=DECAY, max_grad_norm=CLIP,
            bf16=precision == "bf16", use_cpu=True, seed=0, dataloader_pin_memory=False, remove_unused_columns=False,
            logging_strategy="no", save_strategy="no", eval_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(module, settings, data_collator=collate, train_dataset=rows, callbacks=[Clock()])
        done = trainer.train()
    # batches are made one ahead of the step that takes them
    return replace(seen, tokens=seen.tokens[: len(seen.ends)], losses=[done.training_loss], parameters=module.num_parameters())


def child(name: str, side: str, precision: str, folder: Path, steps: int | None) -> None:
    """Print what one training did."""
    import torch
    import transformers

    import paredown.engines.trainer  # noqa: F401 (imports stand outside of the clock)

    transformers.logging.set_verbosity_error()
    work = sized(WORK[name], steps)
    before = time.perf_counter()
    run = {"ours": ours, "bare": bare}.get(side) or partial(hugging_face, side=side)
    seen = run(work, folder, precision)
    if len(seen.ends) != work.warm + work.steps:
        sys.exit(f"{len(seen.ends)} steps, not {work.warm + work.steps}")
    clock = seen.ends[work.warm - 1 :]
    tokens = seen.tokens[work.warm :]
    wall, cpu = (last - first for first, last in zip(clock[0], clock[-1], strict=True))
    found = {
        "rate": sum(tokens) / wall,
        "cpu": sum(tokens) / cpu,
        "single": statistics.median(n / (b - a) for n, ((a, _), (b, _)) in zip(tokens, pairwise(clock), strict=True)),
        "before": clock[0][0] - before,
        "losses": seen.losses,
        "parameters": seen.parameters,
        "threads": torch.get_num_threads(),
    }
    print("\n" + json.dumps(found))


# the parent -----------------------------------------------------------------------------------------------------------


def sized(work: Work, steps: int | None) -> Work:
    return replace(work, steps=steps, warm=min(work.warm, steps)) if steps else work


def spawn(threads: int | None, *arguments: str) -> Any:
    """A child's last line, as JSON."""
    limited = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)) if threads else {}
    environment = {**os.environ, **limited, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def span(values: list[float], form: str = "{:9,.0f}") -> str:
    return " ".join(form.format(f(values)) for f in (min, statistics.median, max))


def measure(name: str, precision: str, folder: Path, rounds: int, steps: int | None, threads: int | None) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {side: [] for side in WORK[name].sides}
    for number in range(rounds):
        for side in WORK[name].sides[:: -1 if number % 2 else 1]:
            found[side].append(spawn(threads, name, side, precision, str(folder), str(steps or 0)))
            rate, load = found[side][-1]["rate"], os.getloadavg()[0]
            print(f"  round {number + 1}  {name} {precision}  {side:<11}{rate:9,.0f} tokens/s  load {load:.1f}", flush=True)
    return found


def report(name: str, precision: str, work: Work, found: dict[str, list[Any]]) -> None:
    first = found["ours"][0]
    size = f"{first['parameters'] / 1e6:.2f}M parameters, {work.rows} rows of {work.length}"
    print(f"\n{name}, {precision}: {size}, {first['threads']} threads")
    print(f"{'predicted tokens/s':<24}{'min':>9} {'median':>9} {'max':>9}    seconds before the clock, median")
    for side, runs in found.items():
        print(f"{side:<24}{span([run['rate'] for run in runs])}    {statistics.median(run['before'] for run in runs):8.2f}")
    print(f"{'ratio within a round':<24}{'min':>9} {'median':>9} {'max':>9}    median step  CPU seconds  target")
    for left, right, target in work.targets:
        pairs = list(zip(found[left], found[right], strict=True))
        ratios = [a["rate"] / b["rate"] for a, b in pairs]
        single, cpu = (statistics.median(a[what] / b[what] for a, b in pairs) for what in ("single", "cpu"))
        verdict = "none" if target is None else f"{target:.2f} {'met' if statistics.median(ratios) >= target else 'missed'}"
        print(f"{left + ' / ' + right:<24}{span(ratios, '{:9.3f}')}    {single:11.3f}  {cpu:11.3f}  {verdict}")
    losses = first["losses"]
    far = max(abs(a - b) for a, b in zip(losses, found["bare"][0]["losses"], strict=True))
    print(f"loss from {losses[0]:.4f} to {losses[-1]:.4f}; largest difference of a step's loss, ours and bare: {far:.2e}")
    if "hf" in found:
        print(f"difference of the mean loss, ours and hf: {abs(statistics.fmean(losses) - found['hf'][0]['losses'][0]):.2e}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of every side")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="what is trained")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), help="default: fp32, and bf16 where the CPU has it")
    parser.add_argument("--steps", type=int, help="steps under the clock; default by work")
    parser.add_argument("--threads", type=int, help="threads of every child; default torch's own")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        task, *rest = given.child
        if task == "make":
            make(Path(rest[1]), WORK[rest[0]], rest[0] == "skewed")
            print("{}")
        else:
            child(task, rest[0], rest[1], Path(rest[2]), int(rest[3]) or None)
        return

    from paredown.core.machine import describe
    from paredown.engines.precision import resolve_precision

    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, load {machine['load']}")
    formats = given.precision or ["fp32", *(["bf16"] if resolve_precision("auto", "cpu") == "bf16" else [])]
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.work:
            folder = Path(temporary) / name
            spawn(given.threads, "make", name, str(folder))
            for precision in formats:
                found = measure(name, precision, folder, given.rounds, given.steps, given.threads)
                report(name, precision, sized(WORK[name], given.steps), found)


if __name__ == "__main__":
    main()
