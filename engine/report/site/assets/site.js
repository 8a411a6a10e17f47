/* The router: #card, #quality, #gallery, #person/KEY/ID, #compare, #compare/KEY/ID. */
"use strict";
(function () {
  const { h, views } = PSEUDOGT;
  const main = document.getElementById("main");
  let close = null;
  let number = 0;

  function decoded(part) {
    try { return decodeURIComponent(part); } catch (malformed) { return part; }
  }

  async function go() {
    const mine = ++number;
    const site = await PSEUDOGT.load("release");
    const [name, ...parts] = location.hash.slice(1).split("/").map(decoded);
    const view = views[name] || views.card;
    if (mine !== number) return;
    if (close) { close(); close = null; }
    const current = name === "person" ? "gallery" : views[name] ? name : "card";
    for (const link of document.querySelectorAll("#views a")) {
      if (link.dataset.view === current) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    const place = h("div", { class: "view of-" + (views[name] ? name : "card") });
    main.replaceChildren(place);
    window.scrollTo(0, 0);
    main.dataset.ready = "";
    let closing = null;
    try {
      closing = await view.open(place, site, parts);
    } catch (error) {
      place.append(h("p", { class: "note", role: "alert" }, "This view cannot be shown: " + error.message));
      console.error(error);
    }
    if (mine !== number) { if (closing) closing(); return; }
    close = closing || null;
    main.dataset.ready = location.hash || "#card";
    const heading = place.querySelector("h1");
    document.title = (heading ? heading.textContent + " · " : "") + site.release.name + " v" + site.release.version;
  }

  async function start() {
    const site = await PSEUDOGT.load("release");
    const nav = document.getElementById("views");
    for (const [name, view] of Object.entries(views)) {
      if (view.title && (name !== "compare" || site.compare)) nav.append(h("a", { href: "#" + name, "data-view": name }, view.title));
    }
    document.getElementById("skip").addEventListener("click", () => main.focus());
    window.addEventListener("hashchange", go);
    await go();
  }

  start().catch((error) => main.replaceChildren(h("p", { class: "note", role: "alert" }, "This page cannot be shown: " + error.message)));
})();
