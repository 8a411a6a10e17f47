/* The card: what this is, what became of everybody, what it was made from, how to cite and to load it. */
"use strict";
(function () {
  const { h, put, count, plural, percent, digest, block } = PSEUDOGT;

  function law(release) {
    const parts = [["annotated", "fitted", release.annotated, ""]];
    for (const [reason, n, meaning] of release.skipped) parts.push(["skipped", "left out: " + reason, n, meaning]);
    for (const [reason, n, meaning] of release.quarantined) parts.push(["quarantined", "failed: " + reason, n, meaning]);
    const bar = h("div", { class: "law", role: "img", "aria-label": parts.map(([, title, n]) => count(n) + " " + title).join(", ") },
      parts.map(([kind, title, n]) => n > 0 && h("span", { class: kind, style: { flexGrow: n }, title: title + ": " + count(n) })));
    const rows = parts.map(([kind, title, n, meaning]) => h("tr", {}, h("td", {}, h("span", { class: "dot " + kind }), title),
      h("td", { class: "number" }, count(n)), h("td", { class: "number" }, percent(release.planned ? n / release.planned : 0)), h("td", { class: "soft" }, meaning)));
    return h("section", {}, h("h2", {}, "What became of everybody"),
      h("p", {}, "Of ", h("b", {}, plural(release.planned, "person")), " marked in the photographs, every one is accounted for: nobody is dropped without a reason."),
      bar, h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, rows))));
  }

  function lineage(release) {
    const groups = release.lineage.map((group) => h("li", {}, h("h3", {}, group.title), h("p", { class: "soft" }, group.meaning),
      h("ul", { class: "digests" }, group.digests.map(([name, value]) => h("li", {}, h("span", { class: "what" }, name), digest(value, "the digest of " + name))))));
    return h("section", {}, h("h2", {}, "What it was made from"),
      h("p", { class: "soft" }, "Each part is named by a digest, a fingerprint of its content: equal digests, equal content."),
      h("div", { class: "made" }, h("ul", { class: "parts" }, groups),
        h("div", { class: "into", "aria-hidden": "true" }, "→"),
        h("div", { class: "result" }, h("b", {}, release.name + " v" + release.version), digest(release.digest, "the release's digest"))),
      h("details", {}, h("summary", {}, "Settings"), h("div", { class: "scroll" }, h("table", {}, h("tbody", {},
        release.settings.map(([name, value]) => h("tr", {}, h("td", {}, name), h("td", {}, h("code", {}, value)))))))));
  }

  function open(main, site) {
    const release = site.release;
    const day = release.created_at.slice(0, 10);
    put(main, 
      h("section", { class: "lead" }, h("h1", {}, release.name, h("span", { class: "version" }, " v" + release.version)),
        h("p", { class: "sentence" }, release.sentence),
        h("dl", { class: "facts" },
          h("div", {}, h("dt", {}, "Persons"), h("dd", {}, count(release.annotated))),
          h("div", {}, h("dt", {}, "Photographs of"), h("dd", {}, release.dataset + " / " + release.split)),
          h("div", {}, h("dt", {}, "Body"), h("dd", {}, release.body === "smpl" ? "SMPL" : release.body + " body")),
          h("div", {}, h("dt", {}, "Made on"), h("dd", {}, day)),
          h("div", {}, h("dt", {}, "Digest"), h("dd", {}, digest(release.digest, "the release's digest")))),
        h("p", {}, h("a", { class: "button", href: "#gallery" }, "Look at the persons"), " ", h("a", { class: "button quiet", href: "#quality" }, "How good is it?"))),
      law(release),
      h("section", {}, h("h2", {}, "What you get for each person"),
        h("div", { class: "columns" },
          h("div", {}, h("h3", {}, "A body"), h("p", {}, release.body_meaning)),
          h("div", {}, h("h3", {}, "A camera"), h("p", {}, release.camera_meaning)),
          h("div", {}, h("h3", {}, "A score"), h("p", {}, site.figures[0].meaning, " ", h("a", { href: "#quality" }, "All figures"))))),
      h("section", {}, h("h2", {}, "How to load it"),
        h("p", { class: "soft" }, "STORE stands for the folder or URL of the release store, SHARD_SET for that of the photographs it was made from. This version is called ",
          h("code", {}, release.reference), "."),
        release.loading.map((way, i) => h("details", { open: i === 0 }, h("summary", {}, way.title), block(way.text, "the lines")))),
      h("section", {}, h("h2", {}, "How to cite it"), block(release.citation, "the BibTeX entry")),
      lineage(release),
      h("section", {}, h("h2", {}, "Licences"), h("ul", {}, release.licences.map((text) => h("li", {}, text)))));
  }

  PSEUDOGT.views.card = { title: "About", open };
})();
