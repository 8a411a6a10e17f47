/* Everybody: search, filter, sort. */
"use strict";
(function () {
  const { h, put, count, plural, figure, persons } = PSEUDOGT;
  const state = { text: "", dataset: "", low: 0, high: 1, order: "mixed", scroll: 0 };
  let found = null;

  /** Places of the persons that pass the filters, in the chosen order; who lacks the figure comes last. */
  function select(people, wanted) {
    const words = wanted.text.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const score = people.figures.score;
    const [low, high] = [Math.fround(wanted.low), Math.fround(wanted.high)];
    const places = [];
    for (let i = 0; i < people.count; i++) {
      if (score[i] < low || score[i] > high) continue;
      if (wanted.dataset && people.dataset[i] !== wanted.dataset) continue;
      if (words.length && !words.every((word) => people.words[i].includes(word))) continue;
      places.push(i);
    }
    if (wanted.order !== "mixed") {
      const [column, way] = wanted.order.split(":");
      const values = people.figures[column];
      const sign = way === "down" ? -1 : 1;
      places.sort((a, b) => {
        const x = values[a];
        const y = values[b];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
        return sign * (x - y) || a - b;
      });
    }
    return places;
  }

  function card(people, place) {
    const score = people.figures.score[place];
    const picture = h("span", { class: "thumb" });
    persons.paint(picture, place, false);
    return h("div", { class: "card" }, h("a", { href: persons.link("person", people.key[place], people.id[place]),
      "aria-label": "Person " + people.id[place] + " of " + people.key[place] + ", score " + figure(score) },
    picture, h("span", { class: "caption" }, h("b", { class: "score" }, score.toFixed(2)), h("span", { class: "who" }, people.id[place]))));
  }

  async function open(main, site) {
    const people = await persons.everybody();
    const release = site.release;
    const partly = people.count < release.annotated;
    const number = h("p", { class: "found", role: "status", "aria-live": "polite" });
    const list = h("div", {});
    const cards = PSEUDOGT.grid(list, { smallest: 132, below: 34, label: "Persons", makeCard: (place) => card(people, place) });
    const orders = [["mixed", "mixed, as if drawn at random"]];
    const changes = site.compare ? site.compare.figures : [];
    for (const f of [...site.figures, ...changes]) {
      if (!people.figures[f.column] || !people.figures[f.column].some((value) => !Number.isNaN(value))) continue;
      orders.push([f.column + ":up", f.label + ", lowest first"], [f.column + ":down", f.label + ", highest first"]);
    }
    const slider = (name, label) => h("label", {}, label, h("input", { type: "range", id: "score-" + name, min: 0, max: 1, step: 0.01, value: state[name] }));
    const low = slider("low", "Score from");
    const high = slider("high", "to");
    const shownRange = h("output", { class: "range" });
    const search = h("input", { type: "search", id: "search", placeholder: "part of a photograph's name or an id", value: state.text, autocomplete: "off", spellcheck: "false" });
    const datasets = site.datasets.map(([name]) => name);
    const dataset = h("select", { id: "dataset" }, h("option", { value: "" }, "all"), datasets.map((name) => h("option", { value: name, selected: name === state.dataset }, name)));
    const order = h("select", { id: "order" }, orders.map(([value, text]) => h("option", { value, selected: value === state.order }, text)));

    function update() {
      found = select(people, state);
      shownRange.textContent = state.low.toFixed(2) + " to " + state.high.toFixed(2);
      number.textContent = found.length === people.count ? plural(found.length, "person") : count(found.length) + " of " + plural(people.count, "person");
      cards.show(found);
    }
    let waiting = 0;
    const soon = () => { clearTimeout(waiting); waiting = setTimeout(update, 80); };
    search.addEventListener("input", () => { state.text = search.value; soon(); });
    dataset.addEventListener("change", () => { state.dataset = dataset.value; update(); });
    order.addEventListener("change", () => { state.order = order.value; update(); window.scrollTo(0, 0); });
    for (const [name, label, other] of [["low", low, "high"], ["high", high, "low"]]) {
      label.querySelector("input").addEventListener("input", (event) => {
        state[name] = Number(event.target.value);
        if (state.low > state.high) {
          state[other] = state[name];
          (name === "low" ? high : low).querySelector("input").value = state[other];
        }
        soon();
      });
    }
    put(main, h("h1", {}, "Gallery"),
      h("p", { class: "sentence" }, "Each tile is a person ", site.photographs ? "on the photograph, with the fitted body over it" : "as the fitted body alone, because this page was made without photographs",
        ". The number is the ", h("a", { href: "#quality" }, "score"), ": 1 is best, 0 means that nothing was checked or nothing fits."),
      partly && h("p", { class: "note" }, "This page shows " + count(people.count) + " of the release's " + count(release.annotated) +
        " persons: those with the lowest and with the highest scores" + (site.compare ? ", those that changed most," : "") +
        " and others drawn evenly. The figures under Quality count everybody."),
      h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        h("label", { class: "grow" }, "Search", search),
        datasets.length > 1 && h("label", {}, "Dataset", dataset),
        h("div", { class: "sliders" }, low, high, shownRange),
        h("label", {}, "Order", order)),
      number, list);
    update();
    if (state.scroll) window.scrollTo(0, state.scroll);
    return () => { state.scroll = window.scrollY; clearTimeout(waiting); cards.close(); };
  }

  PSEUDOGT.gallery = { select, selection: async () => found || select(await persons.everybody(), state) };
  PSEUDOGT.views.gallery = { title: "Gallery", open };
})();
