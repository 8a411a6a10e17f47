/* Side by side: who changed from one release to another, most first. */
"use strict";
(function () {
  const { h, put, count, plural, figure, persons, charts, digest } = PSEUDOGT;

  const thousandths = (value) => Math.round(value * 1000);

  /** The measures of change, that of the page first: what does not differ in it is told by the next. */
  function measures(compare) {
    const first = (f) => (f.column === compare.figure ? 0 : 1);
    return compare.figures.slice().sort((a, b) => first(a) - first(b));
  }

  /** Places of everybody on the page who is in both releases and changed by a thousandth of anything, furthest first. */
  async function changed() {
    const site = await PSEUDOGT.load("release");
    const people = await persons.everybody();
    const moved = measures(site.compare).map((f) => people.figures[f.column]);
    const places = [];
    for (let i = 0; i < people.count; i++) if (moved.some((column) => thousandths(column[i]) > 0)) places.push(i);
    const further = (a, b) => moved.reduce((apart, column) => apart || (thousandths(column[b]) - thousandths(column[a])) || 0, 0);
    return places.sort((a, b) => further(a, b) || a - b);
  }

  async function open(main, site, parts) {
    const compare = site.compare;
    if (!compare) { put(main, h("h1", {}, "Side by side"), h("p", {}, "This page was made of one release alone.")); return null; }
    if (parts.length === 2) return PSEUDOGT.showPerson(main, site, parts, "compare");
    const people = await persons.everybody();
    const places = await changed();
    const main_figure = compare.figures.find((f) => f.column === compare.figure);
    const still = compare.counts.slice(2).every((n) => n === 0);
    const releases = [["a", "this release", site.release], ["b", "the other release", compare.other]];
    const rows = [["The same in both", compare.same], ["Changed", compare.changed], ["In this release alone", compare.only_a], ["In the other release alone", compare.only_b]];
    const list = h("div", {});
    const makeCard = (place) => {
      const pictures = [false, compare.drawable ? true : null].filter((theirs) => theirs !== null).map((theirs) => {
        const picture = h("span", { class: "thumb" });
        persons.paint(picture, place, theirs);
        return picture;
      });
      const told = measures(compare).find((f) => thousandths(people.figures[f.column][place]) > 0) || main_figure;
      const text = figure(people.figures[told.column][place]) + " " + told.unit;
      return h("div", { class: "card wide" }, h("a", { href: persons.link("compare", people.key[place], people.id[place]), "aria-label": "Person " + people.id[place] + " of " + people.key[place] + ", change " + text },
        h("span", { class: "both" }, pictures), h("span", { class: "caption" }, h("b", { class: "score" }, text), h("span", { class: "who" }, people.id[place]))));
    };
    const cards = PSEUDOGT.grid(list, { smallest: 260, below: 34, wide: compare.drawable, label: "Persons that changed", makeCard });
    put(main, h("h1", {}, "Side by side"),
      h("p", { class: "sentence" }, "What changed for the same persons from one release to the other. ", main_figure.meaning),
      h("dl", { class: "facts" }, releases.map(([colour, text, release]) => h("div", {}, h("dt", {}, h("span", { class: "dot " + colour }), text), h("dd", {}, release.name + " v" + release.version, " ", digest(release.digest, "the digest of " + text))))),
      compare.notes.map((note) => h("p", { class: "note" }, note)),
      h("section", {}, h("h2", {}, "Who is in which"), h("div", { class: "scroll" }, h("table", { class: "narrow" }, h("tbody", {}, rows.map(([text, n]) => h("tr", {}, h("th", { scope: "row" }, text), h("td", { class: "number" }, count(n)))))))),
      compare.changed > 0 && h("section", {}, h("h2", {}, "How far they moved"), still
        ? h("p", { class: "soft" }, "All of them by less than ", figure(compare.edges[1]), " ", main_figure.unit, ".")
        : [h("p", { class: "soft" }, "Each bar counts persons that changed, by ", main_figure.label.toLowerCase(), " in ", main_figure.unit, ". The bars' ranges grow to the right."),
        charts.histogram(compare.counts, compare.edges, main_figure.label)]),
      h("h2", {}, "What changed most"),
      h("p", { class: "found" }, places.length ? plural(places.length, "person") + " of this page" + (places.length < compare.changed ? ", of " + count(compare.changed) + " that changed" : "") + ", furthest first" : "Nobody on this page changed by a thousandth of any measure."), list);
    cards.show(places);
    return cards.close;
  }

  PSEUDOGT.changed = changed;
  PSEUDOGT.views.compare = { title: "Side by side", open };
})();
