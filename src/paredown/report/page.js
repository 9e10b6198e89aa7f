"use strict";
(() => {
  // Steps of the graph open their card in place; without scripts the link leads to it.
  const cards = document.getElementById("cards");
  const nodes = [...document.querySelectorAll("a.node")];
  cards.classList.add("scripted");
  const show = (index) => {
    for (const node of nodes) node.classList.toggle("chosen", node.dataset.step === index);
    for (const card of cards.children) card.classList.toggle("shown", card.id === `step-${index}`);
  };
  for (const node of nodes) {
    node.addEventListener("click", (event) => {
      event.preventDefault();
      show(node.classList.contains("chosen") ? "" : node.dataset.step);
    });
  }
  const linked = /^#step-(\d+)$/.exec(location.hash);
  if (linked) show(linked[1]);

  if (typeof window.vegaEmbed !== "function") return;
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const options = { actions: false, renderer: "svg", tooltip: { theme: "custom" } };
  const draw = Object.entries(specs).map(([id, spec]) =>
    window.vegaEmbed(`#${id}`, spec, options).then(() => {
      const box = document.getElementById(id);
      box.classList.add("drawn");
      box.closest("figure").querySelector("details.figures").open = false; // what is drawn is not said twice
    }));
  Promise.all(draw).catch((error) => {
    for (const box of document.querySelectorAll(".vega:not(.drawn)")) box.textContent = `This chart could not be drawn: ${error.message}`;
    throw error;
  });
})();
