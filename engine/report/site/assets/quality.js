/* How good the release is: the distribution of every figure, by dataset, what failed, and a few drawn in advance. */
"use strict";
(function () {
  const { h, put, count, plural, figure, persons, charts } = PSEUDOGT;
  const KINDS = { worst: "The lowest scores: where it went wrong", random: "Drawn at random: what to expect", best: "The highest scores" };

  function byDataset(site, edges) {
    const names = site.datasets.map(([name]) => name);
    if (names.length < 2) return h("p", { class: "soft" }, "All persons are from one dataset, ", names[0] || site.release.dataset, ".");
    const cell = (counts, column) => {
      const middle = charts.median(counts, edges[column]);
      return h("td", { class: "number" }, middle ? charts.range(middle) : "–");
    };
    return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Dataset", "Persons", "Median score", "Median joint distance"].map((t, i) =>
      h("th", { scope: "col", class: i ? "number" : "" }, t)))),
    h("tbody", {}, site.datasets.map(([name, found]) => {
      return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, count(found.truncation.reduce((a, b) => a + b, 0))),
        cell(found.score, "score"), cell(found.reprojection_error, "reprojection_error"));
    }))));
  }

  function failed(site) {
    const release = site.release;
    if (!release.quarantined.length) return h("section", {}, h("h2", {}, "What failed"), h("p", {}, "Nothing: everybody who was planned and not left out on purpose has a fit."));
    const some = site.quarantine;
    return h("section", {}, h("h2", {}, "What failed"),
      h("p", {}, "Set aside with a reason, so that nobody takes a broken photograph for a person without a pose."),
      h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Reason"), h("th", { scope: "col", class: "number" }, "Persons"), h("th", { scope: "col" }, "Meaning"))),
        h("tbody", {}, release.quarantined.map(([reason, n, meaning]) => h("tr", {}, h("th", { scope: "row" }, reason), h("td", { class: "number" }, count(n)), h("td", {}, meaning)))))),
      h("details", {}, h("summary", {}, some.length < site.quarantine_rows ? "The first " + count(some.length) + " of " + plural(site.quarantine_rows, "entry", "entries") : "One by one"),
        h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, some.map((row) =>
          h("tr", {}, h("td", {}, row.key), h("td", {}, row.annotation_id || ""), h("td", {}, row.reason), h("td", { class: "soft" }, row.message))))))));
  }

  async function pictures(place, site) {
    const people = await persons.everybody();
    for (const [kind, title] of Object.entries(KINDS)) {
      const mine = site.drawn.filter(([k]) => k === kind);
      if (!mine.length) continue;
      const strip = h("div", { class: "strip", tabindex: "0", role: "group", "aria-label": title }, mine.map(([, at, file]) =>
        h("a", { href: persons.link("person", people.key[at], people.id[at]) },
          h("img", { src: file, loading: "lazy", width: 1200, height: 400, alt: "Photograph with marked joints, body over it, body from the side; person " + people.id[at] }),
          h("span", {}, "score " + figure(people.figures.score[at])))));
      place.append(h("h3", {}, title), strip);
    }
  }

  function open(main, site) {
    const edges = Object.fromEntries(Object.entries(site.release.figures).map(([name, f]) => [name, f.edges]));
    const cards = h("div", { class: "charts" });
    const draw = (dataset) => cards.replaceChildren(...site.figures.filter((f) => site.release.figures[f.column]).map((f) => {
      const counts = dataset !== "" ? site.datasets[Number(dataset)][1][f.column] : site.release.figures[f.column].counts;
      const any = counts.some((n) => n > 0);
      return h("article", { class: "panel" }, h("h3", {}, f.label, h("span", { class: "unit" }, f.unit)), h("p", { class: "soft" }, f.meaning),
        charts.histogram(counts, edges[f.column], f.label), any && h("p", { class: "good" }, f.good));
    }));
    const names = site.datasets.map(([name]) => name);
    const select = h("select", { id: "quality-dataset", onchange: (event) => draw(event.target.value) }, h("option", { value: "" }, "all of them"), names.map((n, i) => h("option", { value: i }, n)));
    const drawnPlace = h("section", {}, h("h2", {}, "Drawn in advance"),
      h("p", { class: "soft" }, "Left the photograph with the joints somebody marked, in the middle the fitted body over it, on the right the body from its side, where mistakes in depth show."));
    put(main, 
      h("h1", {}, "Quality"),
      h("p", { class: "sentence" }, "How well the bodies match what is known of each person: the joints that somebody marked on the photograph. ",
        "A body can meet all of them and still lean the wrong way, because a photograph says little about depth."),
      h("section", {}, h("h2", {}, "Every figure, everybody"),
        h("p", { class: "soft" }, "Each bar counts persons; the dashed line is the median, with as many persons on its left as on its right. Point at a bar for its number."),
        names.length > 1 && h("p", {}, h("label", { for: "quality-dataset" }, "Persons of "), select), cards),
      h("section", {}, h("h2", {}, "By dataset"), byDataset(site, edges)),
      failed(site));
    draw("");
    if (site.drawn.length) { put(main, drawnPlace); pictures(drawnPlace, site); }
  }

  PSEUDOGT.views.quality = { title: "Quality", open };
})();
