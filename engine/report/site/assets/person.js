/* One person, large: the body over the photograph, from the side, and turned by hand; every figure with what it means. */
"use strict";
(function () {
  const { h, put, figure, plural, persons } = PSEUDOGT;
  const COLOUR = "#60a5fa";
  const OTHER = "#fb923c";
  let body = null;
  const VIEWS = [["camera", "From the camera"], ["side", "From the side"], ["free", "Turn it yourself"]];

  /** What the viewer draws with: the body, or the triangles of meshes that were posed in advance. */
  async function ready(site) {
    await PSEUDOGT.script("assets/three.js");
    await PSEUDOGT.script("assets/body.js");
    await PSEUDOGT.script("assets/viewer.js");
    if (!site.body_data) return { faces: PSEUDOGT_BODY.unpack(await PSEUDOGT.load("faces"), "u2") };
    body = body || PSEUDOGT_BODY.decode(await PSEUDOGT.load("body"));
    return { body };
  }

  const meshOf = async (place) => PSEUDOGT_BODY.decodeMesh(await PSEUDOGT.load("mesh-" + String(place).padStart(5, "0")));

  function marks(site, person) {
    const bones = site.skeletons[person.skeleton] || [];
    const [left, top, right, bottom] = person.window;
    const at = (joint) => [(100 * (joint[0] + 0.5 - left)) / (right - left), (100 * (joint[1] + 0.5 - top)) / (bottom - top)];
    const svg = h("svg", { class: "marks", viewBox: "0 0 100 100", "aria-hidden": "true" });
    for (const [a, b] of bones) {
      if (!person.joints[a] || !person.joints[b]) continue;
      const [[x1, y1], [x2, y2]] = [at(person.joints[a]), at(person.joints[b])];
      svg.append(h("line", { x1, y1, x2, y2 }));
    }
    for (const joint of person.joints) if (joint) svg.append(h("circle", { cx: at(joint)[0], cy: at(joint)[1], r: 0.9 }));
    return svg;
  }

  /** The stage: picture, viewer and its buttons. Returns what closes it. */
  async function stage(place, site, person, other) {
    const inside = h("div", { class: "inside" });
    const canvas = h("div", { class: "canvas" }, inside);
    const note = h("p", { class: "soft hint" });
    const buttons = h("div", { class: "buttons", role: "group", "aria-label": "View" });
    put(place, canvas, buttons, note);
    const drawing = site.drawn.find(([, at]) => at === person.place);
    const label = other ? "this release" : "the fitted body";
    const [left, top, right, bottom] = person.window;
    let viewer = null;
    let shapes = [];
    let why = "The body of this release may not be published with a page, so only the " + plural(site.drawn.length, "person") +
      " drawn in advance can be turned in 3D. Shown is the picture of the gallery.";
    if (site.body_data || drawing) {
      try {
        const means = await ready(site);
        const mine = { ...person.body, colour: COLOUR, label };
        shapes = [site.body_data ? mine : { ...mine, vertices: await meshOf(person.place) }];
        if (other && site.body_data) shapes.push({ ...other.body, colour: OTHER, label: "the other release" });
        viewer = PSEUDOGT_VIEWER.open(inside, shapes, { ...means, image: person.photo, view: "camera",
          window: [left - 0.5, top - 0.5, right - left, bottom - top] });
      } catch (error) {
        why = "The 3D view cannot be shown here: " + error.message + ". Shown is the picture of the gallery.";
      }
      if (viewer && !viewer.ok) {
        viewer.dispose();
        viewer = null;
        why = "This browser cannot draw in 3D (no WebGL). Shown is the picture of the gallery.";
      }
    }
    if (!viewer) {
      const still = h("div", { class: "thumb still" });
      persons.paint(still, person.place, false);
      inside.replaceChildren(still);
    }
    const joints = person.joints && person.joints.some(Boolean) ? marks(site, person) : null;
    if (joints) canvas.append(joints);
    note.textContent = viewer ? "" : why;
    let view = "camera";
    let markers = false;

    function show() {
      for (const button of buttons.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
      if (joints) joints.style.display = markers && view === "camera" ? "" : "none";
      if (viewer) {
        note.textContent = view === "camera" ? "The body as its virtual camera puts it onto the photograph."
          : view === "side" ? "From the person's side in the picture: leaning and bending in depth show here."
            : "Drag to turn, pinch or scroll to come closer; arrow keys turn it too.";
      }
    }
    const toggle = (text, act, on) => {
      const button = h("button", { type: "button", "aria-pressed": String(on) }, text);
      button.addEventListener("click", () => {
        const now = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(now));
        act(now);
      });
      return button;
    };
    if (viewer) {
      for (const [name, text] of VIEWS) {
        buttons.append(h("button", { type: "button", "data-view": name, onclick: () => { view = name; viewer.setView(name); show(); } }, text));
      }
      buttons.append(h("span", { class: "gap" }), toggle("Wireframe", (on) => viewer.setWireframe(on), false));
      if (shapes.length === 2) {
        const which = { a: true, b: true };
        const pick = () => viewer.setPersons(shapes.filter((_, i) => (i ? which.b : which.a)));
        buttons.append(toggle("This release", (on) => { which.a = on; pick(); }, true), toggle("The other", (on) => { which.b = on; pick(); }, true));
      }
    }
    if (joints) buttons.append(toggle("Marked joints", (on) => { markers = on; show(); }, false));
    show();
    return () => { if (viewer) viewer.dispose(); };
  }

  function figures(site, people, person, other) {
    const known = [...(other ? site.compare.figures : []), ...site.figures].filter((f) => people.figures[f.column]);
    return h("dl", { class: "figures" }, known.map((f) => {
      const value = people.figures[f.column][person.place];
      const theirs = other && f.column === "score" ? h("dd", { class: "soft" }, "In the other release " + figure(other.score) + ".") : null;
      return h("div", {}, h("dt", {}, f.label), h("dd", {}, h("b", {}, figure(value)), " ", h("span", { class: "unit" }, Number.isNaN(value) ? "not known" : f.unit)), theirs, h("dd", { class: "soft" }, f.meaning));
    }));
  }

  const numbers = (values, digits) => Array.from(values, (v) => v.toFixed(digits)).join(", ");

  function parameters(person) {
    const rows = [["Box", numbers(person.bbox, 1), "px: left, top, width, height"], ["Focal length", numbers(person.body.focal, 1), "px, of the virtual camera"],
      ["Principal point", numbers(person.body.princpt, 1), "px"], ["Translation", numbers(person.body.transl, 3), "m: right, down, away from the camera"],
      ["Shape", numbers(person.body.betas, 3), "10 coefficients"], ["Pose", numbers(person.body.pose, 3), "24 rotations as axis-angle, radians, the whole body's first"]];
    return h("details", {}, h("summary", {}, "The numbers of the row"), h("div", { class: "scroll" }, h("table", {}, h("tbody", {},
      rows.map(([name, text, unit]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "numbers" }, h("code", {}, text)), h("td", { class: "soft" }, unit)))))));
  }

  /** The view of a person; compare: of the person in both releases. */
  async function show(main, site, [key, id], kind) {
    const people = await persons.everybody();
    const place = people.place.get(JSON.stringify([key, id]));
    const back = kind === "compare" ? "#compare" : "#gallery";
    if (place === undefined) {
      put(main, h("h1", {}, "Not on this page"), h("p", {}, "There is no person ", h("code", {}, id), " of ", h("code", {}, key), " here",
        people.count < site.release.annotated ? "; the page shows " + plural(people.count, "person") + " of the release, not all." : "."), h("p", {}, h("a", { href: back }, "Back")));
      return null;
    }
    const list = kind === "compare" ? await PSEUDOGT.changed() : await PSEUDOGT.gallery.selection();
    const at = list.indexOf(place);
    const person = await persons.person(place);
    const other = kind === "compare" ? await persons.counterpart(place) : null;
    const go = (to) => to >= 0 && to < list.length && at >= 0 && (location.hash = persons.link(kind, people.key[list[to]], people.id[list[to]]));
    const step = (to, text, label) => h("a", { class: "button quiet", "aria-label": label, "aria-disabled": String(at < 0 || to < 0 || to >= list.length),
      href: at >= 0 && to >= 0 && to < list.length ? persons.link(kind, people.key[list[to]], people.id[list[to]]) : null }, text);
    const place3d = h("div", { class: "stage" });
    const drawing = site.drawn.find(([, i]) => i === place);
    const pair = other && site.compare.drawable ? h("div", { class: "pair" }, [[false, "this release", "a"], [true, "the other release", "b"]].map(([theirs, text, colour]) => {
      const picture = h("span", { class: "thumb", role: "img", "aria-label": "The body of " + text });
      persons.paint(picture, place, theirs);
      return h("figure", {}, picture, h("figcaption", {}, h("span", { class: "dot " + colour }), text));
    })) : null;
    put(main, 
      h("div", { class: "row" }, h("a", { href: back }, kind === "compare" ? "← Side by side" : "← Gallery"),
        h("span", { class: "steps" }, step(at - 1, "← Previous", "Previous person"), h("span", { class: "soft" }, at < 0 ? "" : at + 1 + " of " + PSEUDOGT.count(list.length)), step(at + 1, "Next →", "Next person"))),
      h("h1", { class: "person-name" }, "Person ", h("code", {}, person.id)),
      h("p", { class: "soft where" }, "on photograph ", h("code", {}, person.key), " of ", person.dataset, " ", PSEUDOGT.copyButton(() => location.href, "the link to this person", "Copy link")),
      h("div", { class: "two" }, place3d, h("div", {}, pair, figures(site, people, person, other))),
      drawing && h("section", {}, h("h2", {}, "Drawn in advance"), h("img", { class: "wide", src: drawing[2], width: 1200, height: 400, alt: "Photograph with marked joints, body over it, body from the side" })),
      parameters(person));
    const keys = (event) => {
      if (event.target.closest("input, select, textarea, .canvas") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowLeft") go(at - 1);
      else if (event.key === "ArrowRight") go(at + 1);
      else if (event.key === "Escape") location.hash = back;
    };
    document.addEventListener("keydown", keys);
    const close = await stage(place3d, site, person, other);
    return () => { document.removeEventListener("keydown", keys); close(); };
  }

  PSEUDOGT.showPerson = show;
  PSEUDOGT.views.person = { open: (main, site, parts) => show(main, site, parts, "person") };
})();
