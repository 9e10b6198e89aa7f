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
    assert numbers.decimals_for([1.95, 0.2, None]) == 3
    assert numbers.decimals_for([16400.0]) == 0


def test_pareto_front_by_brute_force():
    points = [{"x": x, "y": y} for x, y in [(1, 5), (2, 3), (2, 4), (3, 3), (4, 1), (4, 1), (5, 2)]]
    assert [(p["x"], p["y"]) for p in charts.pareto(points, "lower", "lower")] == [(1, 5), (2, 3), (4, 1), (4, 1)]
    assert [(p["x"], p["y"]) for p in charts.pareto(points, "higher", "lower")] == [(4, 1), (4, 1), (5, 2)]


def test_names_that_would_cover_each_other_share_a_label():
    points = [{"arm": a, "x": x, "y": y} for a, x, y in (("a", 0, 0), ("b", 10, 10), ("c", 9, 9.5), ("d", 9, 5))]
    assert [(n["arm"], n["x"]) for n in charts.labels(points)] == [("a", 0), ("b, c", 10), ("d", 9)]
    assert [n["arm"] for n in charts.labels(points[:1] * 2)] == ["a, a"]


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


def test_measured_differences_are_coloured_only_where_seeds_do_not_overlap():
    one = page.build(sample.summary())["savings"]["cards"]
    assert {item["mark"] for card in one for item in card["measured"]} == {"same"}
    three = {card["label"]: {i["title"]: i["mark"] for i in card["measured"]} for card in page.build(sample.summary(3))["savings"]["cards"]}
    assert three["narrow"]["decode tokens/s"] == "saved"
    assert three["sparsegpt"]["decode tokens/s"] == "same"
    counted = {item["title"]: item["mark"] for item in one[1]["counted"]}
    assert counted["non-zero"] == "same"  # zeros alone save nothing
    assert {item["title"]: item["mark"] for item in one[2]["counted"]}["bytes at rest"] == "saved"


def test_unsteady_speeds_are_said():
    assert page.build(sample.summary())["unsteady"] == ["decode of narrow 900 to 16,500"]


def test_knobs_of_an_arm_are_those_that_differ():
    rows = steps.groups(sample.summary())
    assert charts.knobs_of(rows, "narrow") == "smaller: prune.channels (sparsity=0.5, pattern=unstructured)"
    assert charts.knobs_of(rows, "dense") == "as the other arms"
    healed = [g for g in rows if g.name == "healed"]
    for group, tokens in zip(healed, (1e5, 2e5, 2e5), strict=True):
        group.first["knobs"] = {"budget": {"tokens": tokens, "steps": None}, "warmup": 0.05}
    assert charts.knobs_of(rows, "control").endswith("; healed: learn.train (budget.tokens=100000)")


def test_held_out_loss_is_drawn_with_the_training_loss():
    drawn = {chart.title: chart for chart in page.build(sample.summary())["curves"]}
    assert list(drawn) == ["dense: loss", "healed: loss"]
    assert [row[2] for row in drawn["dense: loss"].rows] == ["held out", "training"]
    assert "rings are held-out" in drawn["dense: loss"].note


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
    assert len(text) < 200_000
    assert 'class="vega"' not in text
    assert "on the front" in text
    assert text.count("<details open><summary>the figures") >= 4


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
  const wide = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, pre, svg") && e.getBoundingClientRect().right > innerWidth + 1);
  document.querySelector("a.node").dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
  console.info("PROBE" + JSON.stringify({width: innerWidth, over: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map((e) => e.tagName + "." + e.className), drawn: document.querySelectorAll(".vega.drawn svg").length,
    charts: document.querySelectorAll(".vega").length, shown: [...document.querySelectorAll("article.step")].filter((e) => e.offsetParent).map((e) => e.id)}));
}, 1500));</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("kind", ["one", "three", "evil"])
def test_in_a_browser(tmp_path, width, kind):
    summary = {"one": sample.summary, "three": lambda: sample.summary(3), "evil": lambda: evil(sample.summary())}[kind]()
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
    assert probe["over"] <= 0, probe
    assert probe["wide"] == []
    assert probe["drawn"] == probe["charts"] == 5
    assert probe["shown"] == ["step-0"]
