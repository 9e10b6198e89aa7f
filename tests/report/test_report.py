from __future__ import annotations

import copy
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import sample

from paredown.core.errors import DataError
from paredown.report import charts, graph, numbers, page, steps, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>console.error('broken out')</script><img src=x onerror=\"console.error('img')\">&lt;'\""


def written(tmp_path, summary, name="report.html"):
    write_report(summary, tmp_path / name)
    return tmp_path / name


class Outline(HTMLParser):
    """Ids in order, visible text, and everything that would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.text, self.fetched, self.quiet = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.quiet = tag in ("script", "style")
        if "id" in found:
            self.ids.append(found["id"])
        if tag in ("img", "iframe", "object", "embed") or found.get("src") or (tag == "link" and found.get("href") != "data:,"):
            self.fetched.append((tag, found))

    def handle_endtag(self, tag):
        self.quiet = False

    def handle_data(self, data):
        if not self.quiet:
            self.text.append(data)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "", "–"), (2.64e6, "bytes", "2.6 MB"), (8.1e12, "FLOPs", "8.1e12"), (660_000, "parameters", "0.66M"), (712, "parameters", "712"),
     (16_400.4, "tokens/s", "16,400"), (125, "seconds", "2 m 05 s"), (0.42, "seconds", "0.4 s"), (11_400, "seconds", "3 h 10 m"), (1.9512, "bits/byte", "1.951"), (float("nan"), "", "nan")],
)  # fmt: skip
def test_figures(value, unit, text):
    assert numbers.figure(value, unit) == text


def test_change_and_decimals():
    assert numbers.change(0.7, 1) == "−30%"
    assert numbers.change(1.021, 1) == "+2.1%"
    assert numbers.change(1.0001, 1) == "the same"
    assert numbers.change(1, 0) == ""
    assert numbers.change(2.36, 1) == "2.4×"
    assert numbers.change(250, 1) == "250×"
    assert numbers.change(0.004, 1) == "−99.6%"
    assert numbers.decimals_for([1.95, 0.2, None]) == 3
    assert numbers.decimals_for([16400.0]) == 0


def test_a_score_in_seconds_says_its_unit_once():
    summary = sample.summary()
    units = ("s", "bytes", "bits/byte")
    summary["steps"] = [sample.step("a", [], 0, "x.a", {}, 1, scores=[{"metric": "m", "value": 2.5, "unit": unit} for unit in units])]
    assert [score[1:3] for score in page.build(summary)["steps"][0]["scores"]] == [("2.5 s", ""), ("2 B", ""), ("2.5", "bits/byte")]


def test_thinning_keeps_the_mean():
    points = [[i, i * 10.0, float(i)] for i in range(900)]
    thinned, each = charts.thin(points)
    assert each == 3
    assert len(thinned) == 300
    assert thinned[0] == [1, 10.0, 1.0]
    assert charts.thin(points[:300]) == (points[:300], 1)


def test_sources_are_those_of_the_same_arm():
    rows = steps.groups(sample.summary())
    healed = next(g for g in rows if g.name == "healed" and g.arms == ("narrow",))
    assert [(s.name, s.arms) for s in healed.sources] == [("smaller", ("narrow",)), ("tokens", tuple(sample.ARMS))]
    tokens = next(g for g in rows if g.name == "tokens")
    assert [s.name for s in tokens.sources] == ["split"]


def test_seeds_are_one_group_and_the_control_is_grey():
    rows = steps.groups(sample.summary(seeds=3))
    dense = next(g for g in rows if g.name == "dense")
    assert len(dense.steps) == 3
    assert len(rows) == len(steps.groups(sample.summary()))
    found = steps.colours(sample.summary())
    assert found["control"] == "var(--control)"
    assert len(set(found.values())) == 4


@pytest.mark.parametrize("seeds", [1, 3])
def test_graph_has_no_overlaps_and_arrows_point_right_or_down(seeds):
    summary = sample.summary(seeds)
    rows = steps.groups(summary)
    drawing = graph.draw(rows, summary["arms"])
    assert len(drawing.nodes) == len(rows)
    assert drawing.width <= graph.PAGE + 4
    for one in drawing.nodes:
        assert 0 <= one.x <= one.x + one.width <= drawing.width
        assert 0 <= one.y <= one.y + one.height <= drawing.height
        for two in drawing.nodes:
            apart = one.x + one.width <= two.x or two.x + two.width <= one.x or one.y + one.height <= two.y or two.y + two.height <= one.y
            assert one is two or apart
    at = {n.group.index: n for n in drawing.nodes}
    for group in rows:
        for source in group.sources:
            here, there = at[source.index], at[group.index]
            assert (here.x, here.y) < (there.x, there.y)
    assert len(drawing.edges) == sum(1 for group in rows for _ in graph._direct(group))


def test_a_loop_in_a_broken_summary_still_draws():
    summary = sample.summary()
    summary["steps"] = [sample.step("a", [], 0, "x.a", {"of": "b"}, 1), sample.step("b", [], 0, "x.b", {"of": "a"}, 1)]
    assert len(graph.draw(steps.groups(summary), []).nodes) == 2


def test_order_of_the_page_and_what_it_says(tmp_path):
    path = written(tmp_path, sample.summary())
    text = path.read_text()
    outline = Outline(text)
    wanted = ["answer", "recipe", "cost", "dropped", "curves", "quality", "samples", "again"]
    assert [i for i in outline.ids if i in wanted] == wanted
    said = " ".join(" ".join(outline.text).split())
    for piece in (
        "1 seed: no verdict.",
        "zeros; no kernel here uses them",
        "8.1e12",
        "688 of 709 documents kept",
        "longest line",
        "paredown run recipes/quickstart.yaml",
        "not measured",
    ):
        assert piece in said
    assert outline.fetched == []
    assert not re.search(r"url\(|@import", text[: text.index("</style>")])
    assert re.search(r"http-equiv=.Content-Security-Policy. content=.default-src 'none'", text)  # the browser holds the page to it


def test_knobs_of_an_arm_are_those_that_differ():
    rows = steps.groups(sample.summary())
    assert steps.knobs_of(rows, "narrow") == "smaller: prune.channels (sparsity=0.5, pattern=unstructured)"
    assert steps.knobs_of(rows, "dense") == "as the other arms"
    healed = [g for g in rows if g.name == "healed"]
    for group, tokens in zip(healed, (1e5, 2e5, 2e5), strict=True):
        group.first["knobs"] = {"budget": {"tokens": tokens, "steps": None}, "warmup": 0.05}
    assert steps.knobs_of(rows, "control").endswith("; healed: learn.train (budget.tokens=100000)")
    shared = next(g for g in rows if g.arms == ("sparsegpt",) and g.name == "smaller")
    shared.arms = ("sparsegpt", "narrow")  # what some arms share makes them differ from the others too
    assert steps.knobs_of(rows, "narrow").startswith("smaller: prune.sparsegpt (sparsity=0.7, pattern=unstructured)")


def test_held_out_loss_is_drawn_with_the_training_loss():
    drawn = {chart.title: chart for chart in page.build(sample.summary())["curves"]}
    assert list(drawn) == ["dense: loss", "healed: loss"]
    assert [row[2] for row in drawn["dense: loss"].rows] == ["held out", "training"]
    assert "rings are held-out" in drawn["dense: loss"].note


def test_claims_stand_before_the_table(tmp_path):
    summary = sample.summary(3) | {"evidence": {"system": 41, "title": "Rethinking pruning", "published": "Fine-tuning is no better."}}
    said = " ".join(" ".join(Outline(written(tmp_path, summary).read_text()).text).split())
    wanted = [
        "evidence for system 041",
        "Rethinking pruning",
        "4 claims: 1 holds",
        "✓ holds",
        "✕ fails",
        "≈ undecided",
        "– no verdict",
        "Fine-tuning is no better.",
        "Arm by arm",
    ]
    places = [said.index(piece) for piece in wanted]
    assert places == sorted(places)
    assert "budget equal: 2.20M tokens in both arms (0.0% apart)" in said
    assert "allowed 1%" in said


@pytest.mark.parametrize("seeds", [1, 3])
def test_summaries_of_older_runs(tmp_path, seeds):
    said = " ".join(" ".join(Outline(written(tmp_path, sample.old(seeds)).read_text()).text).split())
    assert "not tested yet" in said
    assert "on the front" in said
    assert ("lowest to the highest" in said) == (seeds > 1)
    assert "95%" not in said


def test_same_bytes_twice(tmp_path):
    summary = sample.summary()
    assert written(tmp_path, summary, "a.html").read_bytes() == written(tmp_path, copy.deepcopy(summary), "b.html").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def evil(value):
    """The summary with markup in every free text."""
    keep = {
        "arms",
        "arm",
        "reference",
        "control",
        "unit",
        "better",
        "kind",
        "status",
        "started",
        "strategy",
        "metric",
        "verdict",
        "other",
        "name",
        "inputs",
    }
    if isinstance(value, dict):
        return {k: v if k in keep and k != "verdict" else evil(v) for k, v in value.items()}
    if isinstance(value, list):
        return [evil(v) for v in value]
    return value + EVIL if isinstance(value, str) else value


def test_every_text_is_escaped(tmp_path):
    summary = evil(sample.summary())
    summary["arms"] = [a if a != "narrow" else "narrow" + EVIL for a in summary["arms"]]
    text = json.dumps(summary).replace('"narrow"', json.dumps("narrow" + EVIL))
    body = written(tmp_path, json.loads(text)).read_text()
    body = body.replace(charts.script(), "")
    assert "<script>console.error" not in body
    assert "<img" not in body
    assert html.escape(EVIL, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in body


def test_without_the_extra_the_figures_stand_in_tables(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    text = written(tmp_path, sample.summary()).read_text()
    assert len(text) < 250_000
    assert 'class="vega"' not in text
    assert "on the front" in text
    assert text.count('<details class="figures" open>') == 3


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_unfinished_run(tmp_path, status):
    summary = sample.summary()
    summary |= {"status": status, "verdict": "", "claims": [], "table": {"columns": [], "rows": []}}
    for row in summary["steps"][8:]:
        row |= {"status": "waiting", "cost": {}, "summary": "", "scores": [], "curves": {}, "samples": []}
    summary["steps"][8] |= {"status": "failed", "error": "the loss is not finite"}
    said = " ".join(Outline(written(tmp_path, summary).read_text()).text)
    assert status in said
    assert "the loss is not finite" in said
    assert "waiting" in said


def test_a_recipe_without_arms(tmp_path):
    summary = sample.summary()
    summary |= {"arms": [], "reference": None, "control": None, "steps": [row | {"arms": []} for row in summary["steps"][:8]]}
    summary["table"]["rows"] = [summary["table"]["rows"][0] | {"arm": "", "label": "quickstart"}]
    said = " ".join(Outline(written(tmp_path, summary).read_text()).text)
    assert "quickstart" in said
    assert "Against" not in said


def test_another_format_is_refused(tmp_path):
    with pytest.raises(DataError, match="format 2"):
        write_report({"format": 2}, tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


PROBE = """<script>addEventListener("load", () => setTimeout(() => {
  const wide = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, pre, svg, .ticks") && e.getBoundingClientRect().right > innerWidth + 1);
  document.querySelector("a.node").dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
  const all = (css) => [...document.querySelectorAll(css)];
  const pairs = [], touching = [], outside = [], wrong = [];
  for (const metric of all("[name=pareto-metric]")) for (const cost of all("[name=pareto-cost]")) {
    metric.click(); cost.click();
    const svg = document.querySelector("#pareto svg"), frame = svg.getBoundingClientRect(), title = all("#pareto .title").map((e) => e.textContent);
    const names = all("#pareto .name").map((e) => e.getBoundingClientRect());
    names.forEach((a, i) => names.slice(0, i).forEach((b) => { if (a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2) touching.push([metric.value, cost.value, i]); }));
    for (const e of all("#pareto svg text")) { const r = e.getBoundingClientRect(); if (r.left < frame.left - 2 || r.right > frame.right + 2) outside.push(e.textContent); }
    const x = title[1].includes("\u2190") ? -1 : 1, y = title[0].includes("\u2193") ? 1 : -1, beaten = document.querySelector("#pareto .beaten");
    for (const arm of all("#pareto .arm")) { // all that is beaten lies in the grey part, and the front just outside of it
      const [, px, py] = arm.querySelector(".marker").getAttribute("transform").match(/([\\d.]+) ([\\d.]+)/).map(Number), on = arm.classList.contains("on"), to = on ? 0.4 : -0.4;
      const point = svg.createSVGPoint(); point.x = px + to * x; point.y = py + to * y;
      if (beaten.isPointInFill(point) === on) wrong.push([metric.value, cost.value, arm.dataset.arm]);
    }
    pairs.push([+metric.value, +cost.value, all("#pareto .arm.on").length, all("#pareto .arm").length, names.length]);
  }
  const tip = document.querySelector("#pareto .tip"), said = [];
  const arms = all("#pareto .arm");
  arms[0].focus(); said.push(tip.hidden ? "" : tip.textContent);
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"})); said.push(tip.hidden);
  arms.at(-1).querySelector(".marker").dispatchEvent(new MouseEvent("click", {bubbles: true})); said.push(tip.hidden ? "" : tip.textContent);
  wide.push(...(tip.getBoundingClientRect().right > innerWidth ? [tip] : []));
  console.info("PROBE" + JSON.stringify({width: innerWidth, over: document.documentElement.scrollWidth - innerWidth, pairs, touching, outside, wrong, said,
    wide: wide.map((e) => e.tagName + "." + e.className), drawn: all(".vega.drawn svg").length, requests: performance.getEntriesByType("resource").map((e) => e.name),
    charts: all(".vega").length, shown: all("article.step").filter((e) => e.offsetParent).map((e) => e.id), open: all("details.figures[open]").length}));
}, 1500));</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("kind", ["one", "evil", "crowded"])
def test_in_a_browser(tmp_path, width, kind):
    summary = {
        "one": sample.summary,
        "evil": lambda: evil(sample.summary(3)),
        "crowded": sample.crowded,
    }[kind]()
    path = written(tmp_path, summary)
    before, _, after = path.read_text().rpartition("</body>")
    path.write_text(before + PROBE + after)
    frame = tmp_path / "frame.html"  # a browser window has a least width, a frame has none
    frame.write_text(
        f'<!DOCTYPE html><body style="margin:0"><iframe src="{path.as_uri()}" width="{width}" height="900" style="border:0"></iframe>'
    )
    found = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=15000", f"--window-size={max(width, 500)},900",
         "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    probes = [line for line in console if "PROBE" in line]
    assert len(probes) == 1, found.stderr[-2000:]
    assert console == probes
    probe = json.loads(re.search(r"PROBE(\{.*\})", probes[0])[1])
    assert probe["width"] == width
    assert probe["wide"] == []
    assert probe["over"] <= 0
    assert probe["drawn"] == probe["charts"] == 2
    assert probe["shown"] == ["step-0"]
    assert probe["requests"] == []
    assert probe["open"] == 0
    fronts = page.build(summary)["quality"]["data"]["pairs"]
    arms = len(summary["table"]["rows"])
    assert [tuple(pair[:4]) for pair in probe["pairs"]] == [
        (m, c, len(pair["front"]), arms) for m, row in enumerate(fronts) for c, pair in enumerate(row)
    ]
    assert all(pair[4] == arms for pair in probe["pairs"])  # every arm has its name
    assert (probe["touching"], probe["outside"], probe["wrong"]) == ([], [], [])
    first, hidden, last = probe["said"]
    assert hidden is True
    for text in (first, last):
        assert "front" in text or "beaten by" in text
        assert "n = " in text
        assert "prune." in text or "as the other arms" in text


def test_the_command_of_several_seeds_names_them():
    from paredown.report.page import _command

    assert _command({"file": "r.yaml", "seeds": [0, 2]}) == "paredown compare r.yaml --seeds 0,2"
    assert _command({"recipe": "r"}) == "paredown run r"
