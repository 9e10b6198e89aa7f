"""A slip in each kind of place of the quickstart: exit code 2, one screen, the exact place of the token, the nearest valid name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

QUICKSTART = (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text()
ONE_SCREEN = 24
Run = Callable[[str], "tuple[Path, str]"]

# (old text; what stands there instead, with ^ before the token that is to blame; what is said; the hint)
SLIPS = {
    # names of the recipe's own keys
    "top-level key": ("claims:", "^clams:", "clams: no such key of a recipe", "did you mean claims?"),
    "the key steps itself": ("steps:", "^step:", "step: no such key of a recipe", "did you mean steps?"),
    "key use": ("{use: corpus.read.stdlib}", "{^usse: corpus.read.stdlib}", "library.usse: no such key", "did you mean use?"),
    "recipe's name": ("name: quickstart", "name: ^../outside", "name: '../outside' is no file name", "the report is stored"),
    # names of strategies
    "stage": ("prune.magnitude", "^purne.magnitude", "smaller.use: no strategy purne.magnitude", "did you mean prune.magnitude?"),
    "family": ("corpus.dedup.minhash", "^corpus.dedupe.minhash", "unique.use: no strategy", "did you mean corpus.dedup.minhash?"),
    "strategy": ("prune.magnitude", "^prune.magnitud", "smaller.use: no strategy prune.magnitud", "did you mean prune.magnitude?"),
    "a part for a step": ("corpus.read.stdlib", "^learn.hooks.keep_zeros", "library.use: learn.hooks.keep_zeros is a part, not a step", ""),
    "no mapping for a step": ("{use: corpus.read.stdlib}", "^corpus.read.stdlib", "library: expected a mapping with use", ""),
    # references
    "step in a reference": ("corpus: $parsed", "corpus: ^$prased", "quality.corpus: there is no step prased", "did you mean $parsed?"),
    "part in a reference": ("$split.held_out", "^$split.heldout", "$split.heldout is no part of split (corpus.split)", "did you mean $split.held_out?"),
    "part of a single artifact": ("model: $smaller, tokens", "model: ^$smaller.model, tokens", "is no part of smaller", "it gives one Model: write $smaller"),
    "part that is not kept": ("keep_rejected: true}\n  exact: {use: corpus.dedup.exact, corpus: $quality}", "keep_rejected: false}\n  exact: {use: corpus.dedup.exact, corpus: ^$quality.rejected}", "exact.corpus: $quality.rejected is not kept by corpus.clean.code", "set quality.keep_rejected: true"),
    "no reference": ("corpus: $library", "corpus: ^library", "parsed.corpus: expected a reference, found 'library'", "a step's result is written $step"),
    "wrong artifact": ("measure.speed, model: $healed", "measure.speed, model: ^$tokens", "speed.model: takes Model, but $tokens is Tokens", "there is $dense, $smaller, $healed"),
    "wrong artifact of a part": ("    tokens: $tokens.train\n    held", "    tokens: ^$split.train\n    held", "dense.tokens: takes Tokens, but $split.train is Corpus", "there is $tokens"),
    # inputs and knobs
    "input": ("measure.speed, model:", "measure.speed, ^mdoel:", "speed.mdoel: no such knob of measure.speed", "did you mean model?"),
    "missing input": ("speed: {use: measure.speed, model: $healed, repeats: 25}", "^speed: {use: measure.speed}", "speed.model: missing", "measure.speed takes model: Model"),
    "knob": ("threshold:", "^treshold:", "unique.treshold: no such knob of corpus.dedup.minhash", "did you mean threshold?"),
    "knob like nothing": ("threshold:", "^zzz:", "unique.zzz: no such knob", "its knobs are threshold"),
    "text for a number": ("vocab_size: 512", "vocab_size: ^lots", "tokens.vocab_size: 'lots' is not a whole number", "tokens, the 256 bytes"),
    "a share of a whole number": ("vocab_size: 512", "vocab_size: ^512.5", "tokens.vocab_size: 512.5 is not a whole number", ""),
    "true for a number": ("threshold: 0.8", "threshold: ^true", "unique.threshold: true is not a number", ""),
    "text for true or false": ("keep_rejected: true", "keep_rejected: ^ture", "quality.keep_rejected: 'ture' is not true or false", ""),
    "a list for a number": ("vocab_size: 512", "vocab_size: ^[512]", "tokens.vocab_size: [512] is not a whole number", ""),
    "out of range": ("sparsity: 0.7", "sparsity: ^1.7", "smaller.sparsity: 1.7 is not below 1", "0 <= s < 1"),
    "literal": ("model: $smaller, tokens", "precision: ^bfloat61, model: $smaller, tokens", "pruned_quality.precision: 'bfloat61' is none of", "did you mean bfloat16?"),
    "missing knob": ("  healed:\n    use: learn.train\n    model: $smaller\n    tokens: $tokens.train\n    budget: {tokens: 2e5}\n", "  ^healed:\n    use: learn.train\n    model: $smaller\n    tokens: $tokens.train\n", "healed.budget: missing", "one of tokens, steps, epochs, seconds, flops"),
    # nested parts
    "nested part": ("learn.models.llama", "^learn.models.lama", "dense.model.use: no strategy learn.models.lama", "did you mean learn.models.llama?"),
    "nested part of another kind": ("learn.models.llama", "^learn.objectives.next_token", "is no Architecture", "learn.models.llama"),
    "nested part's knob": ("heads: 4", "^haeds: 4", "dense.model.haeds: no such knob of learn.models.llama", "did you mean heads?"),
    "nested part's value": ("heads: 4", "heads: ^four", "dense.model.heads: 'four' is not a whole number", "attention heads"),
    "knobs that do not go together": ("heads: 4", "^heads: 3", "dense.model: heads (3) must divide hidden_size (128)", ""),
    "hook in a list": ("learn.hooks.keep_zeros", "^learn.hooks.keep_zeroes", "healed.hooks[0].use: no strategy", "did you mean learn.hooks.keep_zeros?"),
    "hook of another kind": ("learn.hooks.keep_zeros", "^learn.schedules.cosine", "is no Hook", "learn.hooks.keep_zeros"),
    "hook without its list": ("[learn.hooks.keep_zeros]", "^learn.hooks.keep_zeros", "healed.hooks: expected a list, such as [learn.hooks.keep_zeros]", ""),
    "budget's key": ("budget: {tokens: 2e6}", "budget: {^tokns: 2e6}", "dense.budget.tokns: no such key", "did you mean tokens?"),
    "budget of two kinds": ("budget: {tokens: 2e6}", "budget: {tokens: 2e6, ^steps: 10}", "give exactly one of tokens, steps, epochs, seconds, flops, not tokens and steps", ""),
    "budget of no kind": ("budget: {tokens: 2e6}", "budget: ^{}", "dense.budget: give exactly one of", ""),
    "budget below zero": ("budget: {tokens: 2e6}", "budget: {tokens: ^-2e6}", "dense.budget.tokens: -2000000.0 is not above 0", ""),
    # arms
    "arm: key use": ("narrow: {smaller.use:", "narrow: {^smaller.ues:", "smaller.ues: no such knob of prune.magnitude", "did you mean use?"),
    "arm: strategy": ("smaller.use: prune.sparsegpt", "smaller.use: ^prune.sparsegtp", "smaller.use: no strategy", "did you mean prune.sparsegpt?"),
    "arm: unknown step": ("smaller.sparsity: 0.5", "^smalelr.sparsity: 0.5", "smalelr.sparsity: there is no step smalelr", "did you mean smaller?"),
    "arm: knob": ("smaller.sparsity: 0.5", "^smaller.sparsty: 0.5", "smaller.sparsty: no such knob of prune.channels", "did you mean sparsity?"),
    "arm: value": ("smaller.sparsity: 0.5", "smaller.sparsity: ^5", "smaller.sparsity: 5 is not below 1", "share of each block's"),
    "arm: step without a knob": ("smaller.sparsity: 0.5", "^smaller: 0.5", "smaller: an override names a step and a knob", ""),
    "arm: knob of a nested part": ("smaller.sparsity: 0.5", "^dense.model.haeds: 2", "dense.model.haeds: no such knob", "did you mean heads?"),
    "arm: second kind of budget": ("smaller.sparsity: 0.5", "^dense.budget.steps: 9", "dense.budget: give exactly one of", ""),
    "arm: reference": ("smaller.calibration: $tokens.train", "smaller.calibration: ^$tokns.train", "smaller.calibration: there is no step tokns", "did you mean $tokens?"),
    "arm: skip": ("healed.skip: true", "^healed.skp: true", "healed.skp: no such knob of learn.train", "did you mean skip?"),
    "arm: skip that is no truth": ("smaller.skip: true", "smaller.skip: ^maybe", "smaller.skip: expected true or false, found 'maybe'", ""),
    "arm: skip of what hands nothing on": ("{smaller.skip: true", "{library.skip: ^true", "library: cannot be skipped: it takes no Corpus", ""),
    "reference arm": ("reference: dense", "reference: ^dens", "reference: 'dens' is no arm", "did you mean dense?"),
    "control arm": ("control: control", "control: ^contrl", "control: 'contrl' is no arm", "did you mean control?"),
    # claims and summary
    "claim's key": ("    budget: tokens\n    says", "    ^bugdet: tokens\n    says", "claims: no such key bugdet", "did you mean budget?"),
    "claim's kind": ("beats: control", "^baets: control", "claims: no such key baets", "did you mean beats?"),
    "claim's arm": ("arm: sparsegpt", "arm: ^sparsegtp", "claims.arm: 'sparsegtp' is no arm", "did you mean sparsegpt?"),
    "claim's other arm": ("beats: control", "beats: ^contrl", "claims.beats: 'contrl' is no arm", "did you mean control?"),
    "claim about one arm": ("beats: control", "beats: ^sparsegpt", "claims.beats: sparsegpt is compared with itself", ""),
    "claim's budget": ("    budget: tokens\n    says", "    budget: ^tokns\n    says", "claims.budget: 'tokns' is none of tokens", "did you mean tokens?"),
    "claim's step": ("metric: quality_after.", "metric: ^quality_aftr.", "claims.metric: there is no step quality_aftr", "did you mean quality_after?"),
    "claim's metric": ("metric: quality_after.bits_per_byte", "metric: ^quality_after.bits_per_bite", "claims.metric: quality_after makes no bits_per_bite (measure.perplexity)", "did you mean quality_after.bits_per_byte?"),
    "seed of a step that draws nothing": ("{use: corpus.dedup.exact,", "{use: corpus.dedup.exact, ^seed: 1,", "exact.seed: corpus.dedup.exact draws no random numbers", "leave it out"),
    "seed that is none": ("held_out: 0.03, seed: 0", "held_out: 0.03, seed: ^-1", "split.seed: expected a whole number of 0 or more, found -1", ""),
    "claim on what measures nothing": ("metric: quality_after.bits_per_byte", "metric: ^dense.loss", "claims.metric: dense makes no metrics (learn.train gives Model)", "what measures is pruned_quality, quality_after, speed"),
    "claim without a metric": ("metric: quality_after.bits_per_byte", "metric: ^quality_after", "claims.metric: expected step.metric", ""),
    "summary's step": ("pruned: pruned_quality.", "pruned: ^pruned_qualty.", "there is no step pruned_qualty", "did you mean pruned_quality?"),
    "summary's metric": ("speed.decode_tokens_per_second", "^speed.decode_token_per_second", "speed makes no decode_token_per_second (measure.speed)", "did you mean speed.decode_tokens_per_second?"),
    # seeds
    "seed": ("seed: 0", "seed: ^one", "seed: expected a whole number of 0 or more, found 'one'", ""),
    "seeds that are no list": ("seed: 0", "seeds: ^3", "seeds: expected a list such as [0, 1, 2], found 3", ""),
    "a seed twice": ("seed: 0", "seeds: [4, ^4]", "seeds: 4 stands twice", ""),
    "a seed below zero": ("seed: 0", "seeds: [0, ^-1]", "seeds: expected a whole number of 0 or more, found -1", ""),
    # the file itself
    "a tab": ("  library:", "^\tlibrary:", "no valid YAML: a tab; YAML is indented with spaces", ""),
    "a key twice": ("  speed:", "  ^quality:", "'quality' stands twice in the same mapping", ""),
    "indented too little": ("    budget: {tokens: 2e6}", "   ^budget: {tokens: 2e6}", "a key that belongs to nothing above it", "is the line indented like its neighbours?"),
    "indented too much": ("    budget: {tokens: 2e6}", "     ^budget: {tokens: 2e6}", "a key where a value goes on", "is the line indented deeper"),
    "a bracket that stays open": ("corpus: $library}\n  quality:", "corpus: $library\n  quality^:", "expected ',' or '}', but got ':'", "the { of line 11, column 11 is not closed"),
    "a quote that stays open": ("name: quickstart", 'name: ^"quickstart', "no valid YAML: a quote that is not closed", ""),
    "a key without its colon": ("seed: 0", "^seed 0", "neither a key with its colon nor a value", ""),
    "an anchor": ("{use: corpus.read.stdlib}", "^&a {use: corpus.read.stdlib}", "anchors and aliases are not used in recipes", ""),
    "a tag": ("{use: corpus.read.stdlib}", "^!x {use: corpus.read.stdlib}", "tags (!name) are not used in recipes", ""),
    "a number that is none": ("threshold: 0.8", "threshold: ^.nan", ".nan is not a finite number", ""),
    # the world outside
    "a file that is not there": ("{use: corpus.read.stdlib}", "{use: corpus.read.files, path: ^nowhere.jsonl}", "library: no file matches nowhere.jsonl", "give a file, a folder"),
}  # fmt: skip


@pytest.fixture
def run(within: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    """Run the program on a recipe's text; the file and what went to standard error."""

    def call(text: str) -> tuple[Path, str]:
        Path("mine.yaml").write_text(text)
        done = within("run", "mine.yaml")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        return Path("mine.yaml"), done.stderr

    return call


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@pytest.mark.parametrize("kind", SLIPS)
def test_a_slip_is_found_where_it_is(run: Run, kind: str) -> None:
    old, new, what, hint = SLIPS[kind]
    marked = QUICKSTART.replace(old, new, 1)
    text = marked.replace("^", "")
    assert (marked.count("^"), text != QUICKSTART) == (1, True)
    line, column = place(text, marked.index("^"))
    file, said = run(text)
    lines = said.splitlines()
    assert len(lines) < ONE_SCREEN
    assert "Traceback" not in said
    here = next((number for number, found in enumerate(lines) if found.startswith(f"  {file}:{line}:{column}  ")), None)
    assert here is not None, f"nothing stands at {line}:{column}\n{said}"
    assert what in lines[here], said
    assert hint in " ".join(lines[here:]), said
    assert not Path(".paredown", "steps").exists(), "nothing was run"
    if kind not in FOLLOWED:
        assert lines[0] == f"1 mistake in {file}; nothing was run", "one slip, one mistake"


FOLLOWED = {
    "arm: key use",  # the knobs of the strategy that was meant are no knobs of the one that is left
}


def test_many_slips_fit_one_screen_and_json_has_them_all(run: Run) -> None:
    text = QUICKSTART
    for old, new in [("$parsed", "$prased"), ("threshold", "treshold"), ("$exact", "$exakt"), ("held_out: 0.03", "held_out: 3"), ("$unique", "$uniqe"),
                     ("learn.models.llama", "learn.models.lama"), ("sparsity: 0.7", "sparsity: 7"), ("keep_zeros", "keep_zeroes"), ("measure.speed", "measure.sped"),
                     ("infer.generate", "infer.generat"), ("beats:", "baets:"), ("reference: dense", "reference: dens"), ("metric: quality_after", "metric: quality")]:  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    file, said = run(text)
    assert "13 mistakes" in said
    assert len(said.splitlines()) < ONE_SCREEN
    assert "more; --json gives them all" in said.splitlines()[-1]
    assert f"{file}:12:45" in said


def test_the_slip_of_a_shared_step_is_said_once_though_every_arm_has_it(run: Run) -> None:
    _, said = run(QUICKSTART.replace("vocab_size: 512", "vocab_size: 12", 1))
    assert said.count("vocab_size: 12 is not at least 257") == 1


def test_a_metric_of_one_arm_only_may_stand_in_the_summary_but_not_in_a_claim(run: Run) -> None:
    """An arm may measure with another strategy; a claim needs the metric in both of its arms."""
    other = "sparsegpt: {speed.use: measure.perplexity, speed.tokens: $tokens.held_out, smaller.use: prune.sparsegpt,"
    text = QUICKSTART.replace("sparsegpt: {smaller.use: prune.sparsegpt,", other, 1)
    text = text.replace("prefill tokens/s: speed.prefill_tokens_per_second", "loss: speed.loss")
    assert other in text
    _, said = run(text.replace("metric: quality_after.bits_per_byte", "metric: speed.loss"))
    assert "1 mistake" in said
    assert "claims.metric: speed makes no loss (measure.speed)" in said
