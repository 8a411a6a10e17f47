/* The persons of the site: names and figures at once, the rest by the thousand when somebody is looked at. */
"use strict";
(function () {
  const { load, unpack } = PSEUDOGT;
  const VECTORS = { pose: 72, betas: 10, transl: 3, focal: 2, princpt: 2, bbox: 4, window: 4 };
  const unpacked = new Map();
  let all = null;
  let site = null;

  /** Names and figures of everybody, in the site's own mixed order: {count, key, id, dataset, figures: {column: Float32Array}}. */
  async function everybody() {
    if (!all) all = read();
    return all;
  }

  async function read() {
    site = await load("release");
    const total = site.shown;
    const people = { count: total, key: [], id: [], dataset: [], figures: {}, place: new Map() };
    for (let number = 0; number * site.chunk < total; number++) {
      const part = await load("persons-" + String(number).padStart(3, "0"));
      const start = number * site.chunk;
      for (let i = 0; i < part.count; i++) {
        people.key.push(part.key[i]);
        people.id.push(part.id[i]);
        people.dataset.push(part.datasets[part.dataset[i]]);
        people.place.set(JSON.stringify([part.key[i], part.id[i]]), start + i);
      }
      for (const [column, text] of Object.entries(part.figures)) {
        people.figures[column] = people.figures[column] || new Float32Array(total);
        people.figures[column].set(unpack(text, Float32Array), start);
      }
    }
    people.words = people.key.map((key, i) => (key + " " + people.id[i]).toLowerCase());
    return people;
  }

  async function chunk(kind, number) {
    const name = kind + "-" + String(number).padStart(3, "0");
    if (!unpacked.has(name)) {
      const text = await load(name);
      const found = {};
      for (const [column, value] of Object.entries(text)) {
        const whole = ["window", "photo", "present"].includes(column);
        found[column] = typeof value === "string" ? unpack(value, whole ? Int32Array : Float32Array) : value;
      }
      unpacked.set(name, found);
    }
    return unpacked.get(name);
  }

  function parameters(found, i) {
    const cut = (name) => found[name].subarray(i * VECTORS[name], (i + 1) * VECTORS[name]);
    return { pose: cut("pose"), betas: cut("betas"), transl: Array.from(cut("transl")), focal: Array.from(cut("focal")),
      princpt: Array.from(cut("princpt")) };
  }

  /** Everything of one person: parameters, box, the photograph's window and size, marked joints. */
  async function person(place) {
    const people = await everybody();
    const number = Math.floor(place / site.chunk);
    const i = place % site.chunk;
    const found = await chunk("bodies", number);
    return {
      place, key: people.key[place], id: people.id[place], dataset: people.dataset[place],
      body: parameters(found, i), bbox: Array.from(found.bbox.subarray(4 * i, 4 * i + 4)),
      window: Array.from(found.window.subarray(4 * i, 4 * i + 4)), photoPx: found.photo[i],
      photo: found.photo[i] ? "photos/" + String(number).padStart(3, "0") + "/" + String(i).padStart(3, "0") + ".jpg" : null,
      skeleton: found.skeleton[i], joints: found.joints[i],
    };
  }

  /** The person's fit in the other release, or null. */
  async function counterpart(place) {
    await everybody();
    const found = await chunk("other", Math.floor(place / site.chunk));
    const i = place % site.chunk;
    return found.present[i] ? { body: parameters(found, i), score: found.score[i] } : null;
  }

  /* Sheets of tiles. An Image is kept until its sheet is there, so that scrolling on never breaks a request off. */
  const sheets = new Map();
  const KEPT = 80;

  function sheet(url) {
    if (!sheets.has(url)) {
      sheets.set(url, new Promise((resolve) => {
        const image = new Image();
        image.onload = () => resolve(true);
        image.onerror = () => resolve(false);
        image.src = url;
      }));
      if (sheets.size > KEPT) sheets.delete(sheets.keys().next().value);
    }
    return sheets.get(url);
  }

  /** Shows a person's tile as the background of an element; other: of the release compared with. */
  function paint(element, place, other) {
    const [columns, rows] = site.sheet;
    const at = place % site.per_sheet;
    const url = "thumbs/" + (other ? "b-" : "") + String(Math.floor(place / site.per_sheet)).padStart(4, "0") + ".jpg";
    element.dataset.sheet = url;
    sheet(url).then((there) => {
      if (!there || element.dataset.sheet !== url) return;
      element.style.backgroundImage = "url(" + url + ")";
      element.style.backgroundSize = columns * 100 + "% " + rows * 100 + "%";
      element.style.backgroundPosition = (100 * (at % columns)) / (columns - 1) + "% " + (100 * Math.floor(at / columns)) / (rows - 1) + "%";
    });
  }

  const link = (view, key, id) => "#" + view + "/" + encodeURIComponent(key) + "/" + encodeURIComponent(id);

  PSEUDOGT.persons = { everybody, person, counterpart, paint, link };
})();
