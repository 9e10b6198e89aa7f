"use strict";
(() => {
  // Quality against cost. The page holds every axis, front and figure; this draws the pair that the reader picks.
  const found = document.getElementById("tradeoffs");
  if (!found) return;
  const data = JSON.parse(found.textContent);
  const figure = document.getElementById("pareto");
  const plot = figure.querySelector(".plot");
  const chosen = { ...data.start };
  const NS = "http://www.w3.org/2000/svg";
  const LONGEST = 26; // letters of a name that stand in the picture
  const REACH = 36; // px from which a pointer picks an arm
  const NARROW = 560; // px of width below which the tip stands under the picture
  const R = 6.5; // px, half a marker
  const SHAPES = [
    "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0Z", "M-5.5 -5.5H5.5V5.5H-5.5Z", "M0 -7.5L7.5 0L0 7.5L-7.5 0Z",
    "M0 -7L7 5.5H-7Z", "M0 7L7 -5.5H-7Z",
  ];

  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const html = (name, parent, text, kind) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    parent.append(node);
    return node;
  };
  const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);
  const label = (axis) => axis.title + (axis.unit ? `, ${axis.unit}` : "");

  const titles = [html("p", plot, undefined, "title"), html("p", plot, undefined, "title end")];
  const tip = html("div", plot, undefined, "tip");
  tip.hidden = true;
  tip.setAttribute("role", "status");

  const pick = (name, title, axes) => {
    const group = html("fieldset", figure.querySelector(".pickers"));
    html("legend", group, title);
    const choices = html("div", group, undefined, "choices");
    axes.forEach((axis, number) => {
      const choice = html("label", choices, axis.title);
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: `pareto-${name}`, value: String(number), checked: number === chosen[name] });
      input.addEventListener("change", () => { chosen[name] = number; draw(); });
      choice.prepend(input);
    });
  };

  // Names -----------------------------------------------------------------------------------------------------------

  const overlap = (a, b) => Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));

  // Whether the line from a to b passes through a box.
  const crosses = (a, b, box) => {
    let from = 0, to = 1;
    for (const [start, step, low, size] of [[a.x, b.x - a.x, box.x, box.w], [a.y, b.y - a.y, box.y, box.h]]) {
      if (Math.abs(step) < 1e-9) { if (start <= low || start >= low + size) return false; continue; }
      const one = (low - start) / step, two = (low + size - start) / step;
      from = Math.max(from, Math.min(one, two));
      to = Math.min(to, Math.max(one, two));
    }
    return from < to;
  };

  // Where each name stands: near its arm, on no other name, off markers, whiskers and the front as far as there is room.
  // A name that is too far to be read as the arm's own gets a line. Names go round the picture until none moves; one
  // that still lies on another is left out (its tip has it).
  const place = (names, obstacles, frame) => {
    const candidates = names.map((name) => {
      const all = [];
      const add = (x, y, lean) => {
        const box = { x, y, w: name.w, h: name.h };
        if (x < frame.x || y < frame.y || x + name.w > frame.x + frame.w || y + name.h > frame.y + frame.h) return;
        const end = { x: Math.min(Math.max(name.x, x), x + name.w), y: Math.min(Math.max(name.y, y + 2), y + name.h - 2) };
        const away = Math.hypot(end.x - name.x, end.y - name.y);
        const fixed = obstacles.reduce((sum, o) => sum + o.weight * overlap(box, o), 0);
        all.push({ ...box, line: away > 22 ? [name, end] : null, cost: fixed + lean + away * 0.6 });
      };
      for (const away of [R + 4, 22, 36, 52, 70]) {
        for (let turn = 0; turn < 16; turn++) {
          const cx = Math.cos((turn * Math.PI) / 8), cy = Math.sin((turn * Math.PI) / 8);
          // the box touches the circle at the angle: beside, above, or at a corner; beside is read best
          add(name.x + away * cx + ((cx - 1) / 2) * name.w, name.y + away * cy + ((cy - 1) / 2) * name.h, turn === 0 ? 0 : turn === 8 ? 3 : turn % 4 === 0 ? 4 : turn % 2 === 0 ? 2 : 5);
        }
      }
      for (let y = frame.y; y < frame.y + frame.h; y += name.h + 1) for (let x = frame.x; x < frame.x + frame.w; x += 24) add(x, y, 6); // anywhere, where it is crowded
      return all;
    });
    const spots = names.map(() => null);
    for (let round = 0; round < 8; round++) {
      let moved = false;
      names.forEach((_, i) => {
        let best = null, least = Infinity;
        for (const spot of candidates[i]) {
          let cost = spot.cost;
          spots.forEach((other, j) => {
            if (!other || j === i) return;
            cost += 40 * overlap(spot, other);
            if (spot.line && crosses(...spot.line, other)) cost += 60;
            if (other.line && crosses(...other.line, spot)) cost += 60;
          });
          if (cost < least) [best, least] = [spot, cost];
        }
        if (best !== spots[i]) { spots[i] = best; moved = true; }
      });
      if (!moved) break;
    }
    spots.forEach((spot, i) => {
      if (spot && spots.some((other, j) => j < i && other && overlap(spot, other) > 0)) spots[i] = null;
    });
    return spots;
  };

  // The picture -----------------------------------------------------------------------------------------------------

  let width = 0;
  const draw = () => {
    width = Math.max(260, Math.round(plot.clientWidth));
    hide();
    plot.querySelector("svg")?.remove();
    const across = data.costs[chosen.cost], up = data.metrics[chosen.metric], pair = data.pairs[chosen.metric][chosen.cost];
    const height = Math.round(Math.min(400, Math.max(290, width * 0.45)));
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${label(up)} against ${label(across)}` });
    titles[0].after(svg);

    const rising = up.ticks.map(([at, text]) => ({ at, node: make("text", { class: "tick" }, svg, text) }));
    const left = Math.ceil(Math.max(24, ...rising.map((t) => t.node.getComputedTextLength()))) + 10;
    const box = { x: left, y: 10, w: width - left - 8, h: height - 10 - 24 };
    const px = (at) => box.x + at * box.w, py = (at) => box.y + box.h - at * box.h;
    for (const { at, node } of rising) {
      for (const [key, value] of Object.entries({ x: left - 8, y: py(at) + 4, "text-anchor": "end" })) node.setAttribute(key, value);
      make("path", { class: "grid", d: `M${box.x} ${py(at)}H${box.x + box.w}` }, svg);
    }
    let end = -Infinity; // a tick's text that would touch the last one is left out
    for (const [at, text] of across.ticks) {
      make("path", { class: "grid", d: `M${px(at)} ${box.y}V${box.y + box.h}` }, svg);
      const node = make("text", { class: "tick", y: box.y + box.h + 17, "text-anchor": "middle" }, svg, text);
      const half = node.getComputedTextLength() / 2;
      const x = Math.min(px(at), width - half - 1);
      if (x - half < end + 10) node.remove();
      else { node.setAttribute("x", x); end = x + half; }
    }
    const side = (axis, low, high) => ` ${axis.better === "lower" ? low : high} ${axis.better} is better${axis.log ? ", log scale" : ""}`;
    for (const [line, axis, arrow] of [[titles[0], up, side(up, "↓", "↑")], [titles[1], across, side(across, "←", "→")]]) {
      line.textContent = label(axis);
      html("span", line, arrow);
    }

    const both = data.arms.map((arm, number) => ({ arm, number, x: across.points[number], y: up.points[number] })).filter((p) => p.x && p.y);
    for (const p of both) Object.assign(p, { px: px(p.x.at), py: py(p.y.at), on: pair.front.includes(p.number) });
    both.sort((a, b) => a.px - b.px || a.py - b.py);

    // The front as a staircase: nothing between two arms is promised. From the best cost to the worst.
    const obstacles = [];
    const steps = pair.front.map((number) => both.find((p) => p.number === number));
    if (across.better === "higher") steps.reverse();
    const worst = { x: across.better === "lower" ? box.x + box.w : box.x, y: up.better === "lower" ? box.y : box.y + box.h };
    if (steps.length) {
      const corners = [{ x: steps[0].px, y: worst.y }];
      for (const p of steps) corners.push({ x: p.px, y: corners.at(-1).y }, { x: p.px, y: p.py });
      corners.push({ x: worst.x, y: corners.at(-1).y });
      const stairs = `M${corners.map((c) => `${c.x} ${c.y}`).join("L")}`;
      svg.insertBefore(make("path", { class: "beaten", d: `${stairs}V${worst.y}Z` }), svg.firstChild);
      make("path", { class: "front", d: stairs }, svg);
      for (let i = 1; i < corners.length; i++) {
        const [one, two] = [corners[i - 1], corners[i]];
        obstacles.push({ x: Math.min(one.x, two.x) - 2, y: Math.min(one.y, two.y) - 2, w: Math.abs(one.x - two.x) + 4, h: Math.abs(one.y - two.y) + 4, weight: 0.3 });
      }
    }
    const corner = make("text", { class: "corner", x: across.better === "lower" ? box.x + 6 : box.x + box.w - 6, y: up.better === "lower" ? box.y + box.h - 7 : box.y + 14,
      "text-anchor": across.better === "lower" ? "start" : "end" }, svg,
      across.better === "lower" ? `${up.better === "lower" ? "↙" : "↖"} better` : `better ${up.better === "lower" ? "↘" : "↗"}`);
    const guides = make("path", { class: "guide", d: "" }, svg);

    const leaders = make("g", {}, svg);
    for (const p of both) obstacles.push({ x: p.px - R - 2, y: p.py - R - 2, w: 2 * R + 4, h: 2 * R + 4, weight: 8 });
    const at = corner.getBBox();
    obstacles.push({ x: at.x, y: at.y, w: at.width, h: at.height, weight: 8 });
    for (const p of both) {
      const title = `${p.arm.label}, ${p.on ? "on the front" : pair.beaten[p.number] || ""}. ${label(across)} ${p.x.text}${p.x.range ? ` (${p.x.range})` : ""}, ${label(up)} ${p.y.text}${p.y.range ? ` (${p.y.range})` : ""}, ${data.n}. ${p.arm.knobs}`;
      p.node = make("g", { class: p.on ? "arm on" : "arm", tabindex: "0", role: "img", "aria-label": title, "data-arm": p.arm.name }, svg);
      p.node.style.setProperty("--c", p.arm.colour);
      let d = "";
      if (p.x.low !== undefined) {
        const [a, b] = [px(p.x.low), px(p.x.high)];
        d += `M${a} ${p.py}H${b}` + (p.x.low > 0 ? `M${a} ${p.py - 4}v8` : "") + (p.x.high < 1 ? `M${b} ${p.py - 4}v8` : "");
        obstacles.push({ x: a, y: p.py - 2, w: b - a, h: 4, weight: 0.6 });
      }
      if (p.y.low !== undefined) {
        const [a, b] = [py(p.y.high), py(p.y.low)];
        d += `M${p.px} ${a}V${b}` + (p.y.high < 1 ? `M${p.px - 4} ${a}h8` : "") + (p.y.low > 0 ? `M${p.px - 4} ${b}h8` : ""); // no end: it reaches beyond the picture
        obstacles.push({ x: p.px - 2, y: a, w: 4, h: b - a, weight: 0.6 });
      }
      make("path", { class: "whisker", d }, p.node);
    }
    for (const p of both) {
      make("circle", { class: "ring", cx: p.px, cy: p.py, r: 12 }, p.node);
      make("path", { class: "marker", d: SHAPES[p.number % SHAPES.length], transform: `translate(${p.px} ${p.py})` }, p.node);
      p.name = make("text", { class: "name" }, p.node, short(p.arm.name));
    }
    const spots = place(both.map((p) => ({ x: p.px, y: p.py, w: p.name.getComputedTextLength() + 4, h: 16 })), obstacles, { x: box.x + 2, y: box.y - 8, w: box.w + 4, h: box.h + 6 });
    both.forEach((p, i) => {
      const spot = spots[i];
      if (!spot) { p.name.remove(); return; }
      p.name.setAttribute("x", spot.x + 2);
      p.name.setAttribute("y", spot.y + 12.5);
      if (spot.line) make("path", { class: "leader", d: `M${spot.line[0].x} ${spot.line[0].y}L${spot.line[1].x} ${spot.line[1].y}` }, leaders);
    });

    const best = figure.querySelector(".best");
    best.textContent = "";
    html("b", best, "On the front: ");
    best.append(both.length < 2 ? "fewer than two arms have both figures" : steps.map((p) => `${p.arm.name} (${p.y.text} at ${p.x.text})`).join(", "));
    if (across.warn) html("small", best, across.warn);

    const choose = (p) => {
      for (const other of both) other.node.classList.toggle("chosen", other === p);
      guides.setAttribute("d", p ? `M${box.x} ${p.py}H${p.px}M${p.px} ${box.y + box.h}V${p.py}` : "");
      if (p) show(p, across, up, pair, width, height); else tip.hidden = true;
    };
    hide = () => choose(null);
    const nearest = (event) => {
      const own = event.target.closest?.(".name, .marker")?.closest(".arm");
      if (own) return both.find((p) => p.node === own);
      const frame = svg.getBoundingClientRect(), zoom = width / frame.width;
      const x = (event.clientX - frame.left) * zoom, y = (event.clientY - frame.top) * zoom;
      const far = (p) => Math.hypot(p.px - x, p.py - y);
      const near = both.reduce((a, b) => (far(b) < far(a) ? b : a), both[0]);
      return near && far(near) <= REACH ? near : null;
    };
    svg.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") choose(nearest(event)); });
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") choose(null); });
    svg.addEventListener("click", (event) => choose(nearest(event)));
    for (const p of both) {
      p.node.addEventListener("focus", () => { if (p.node.matches(":focus-visible")) choose(p); });
      p.node.addEventListener("blur", () => choose(null));
    }
  };

  let hide = () => {};
  const show = (p, across, up, pair, wide, high) => {
    tip.textContent = "";
    const head = html("p", tip);
    const dot = html("span", head, undefined, "dot");
    dot.style.background = p.arm.colour;
    html("b", head, p.arm.label);
    html("p", tip, p.on ? "on the front" : pair.beaten[p.number] || "");
    const list = html("dl", tip);
    for (const [axis, point] of [[up, p.y], [across, p.x]]) {
      html("dt", list, label(axis));
      html("dd", list, point.text + (point.range ? ` (${point.range})` : ""));
    }
    html("p", tip, data.n, "muted");
    html("p", tip, p.arm.knobs, "muted");
    if (p.arm.note) html("p", tip, p.arm.note);
    tip.hidden = false;
    tip.classList.toggle("under", wide < NARROW); // it would cover the picture
    if (wide < NARROW) return;
    const zoom = plot.clientWidth / wide, x = p.px * zoom, y = titles[0].offsetHeight + p.py * zoom;
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = `${x + 16 + w <= plot.clientWidth ? x + 16 : Math.max(0, x - 16 - w)}px`;
    tip.style.top = `${Math.max(0, Math.min(y - h / 2, high * zoom - h))}px`;
  };

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  document.addEventListener("pointerdown", (event) => { if (!plot.contains(event.target)) hide(); });
  pick("metric", "quality", data.metrics);
  pick("cost", "cost", data.costs);
  figure.classList.add("live");
  figure.querySelector("details.figures").open = false;
  draw();
  new ResizeObserver(() => { if (Math.abs(plot.clientWidth - width) > 1) draw(); }).observe(plot);
})();
