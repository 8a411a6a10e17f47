/* What every view uses: data that arrives as scripts, elements made without HTML strings, numbers as text.
 *
 * Nothing that comes from data is ever parsed as HTML: `h` makes elements, and texts become text nodes. */
"use strict";
window.PSEUDOGT = (function () {
  const values = new Map();
  const scripts = new Map();

  /** Called by the data files: data/NAME.js hands over its value. */
  function add(name, value) {
    values.set(name, value);
  }

  /** A script of this folder, once. A page opened from disk may not fetch, but it may add scripts. */
  function script(path) {
    if (!scripts.has(path)) {
      scripts.set(path, new Promise((resolve, reject) => {
        const element = document.createElement("script");
        element.src = path;
        element.onload = () => resolve();
        element.onerror = () => { scripts.delete(path); reject(new Error(path + " could not be read; the site is incomplete")); };
        document.head.append(element);
      }));
    }
    return scripts.get(path);
  }

  /** The value of data/NAME.js. */
  async function load(name) {
    if (!values.has(name)) await script("data/" + name + ".js");
    return values.get(name);
  }

  /** Numbers of a packed array: kind is Float32Array, Int32Array or Int16Array. */
  function unpack(text, kind) {
    const bytes = atob(text);
    const buffer = new Uint8Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) buffer[i] = bytes.charCodeAt(i);
    return new kind(buffer.buffer);
  }

  const SVG = new Set(["svg", "rect", "line", "text", "g", "title", "circle", "path"]);

  /** An element: h("a", {href: "#card", class: "x", onclick: f}, "text", child, [children]). null, undefined and false are left out. */
  function h(tag, attributes, ...children) {
    const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "style") Object.assign(element.style, value);
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    return put(element, ...children);
  }

  /** Appends children as `h` does. */
  function put(element, ...children) {
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
    return element;
  }

  const digits = new Intl.NumberFormat("en-US");
  const count = (n) => digits.format(n);
  const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many || one + "s");

  /** A number with three significant figures; an en dash for one that does not exist. */
  function figure(value) {
    if (!Number.isFinite(value)) return "–";
    if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value);
    const size = Math.abs(value);
    if (size >= 1e5) return value.toExponential(2);
    if (size < 5e-4) return value < 0 ? "> −0.001" : "< 0.001";
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  }

  const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : (100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0) + " %");

  /** Tells a screen reader. */
  function say(text) {
    document.getElementById("said").textContent = text;
  }

  /** Puts text into the clipboard; from disk some browsers allow only the old way. */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (refused) {
      const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  }

  function copyButton(text, what, title) {
    const button = h("button", { type: "button", class: "copy", "aria-label": "Copy " + what }, title || "Copy");
    button.addEventListener("click", async () => {
      const done = await copy(typeof text === "function" ? text() : text);
      button.textContent = done ? "Copied" : "Select and copy it";
      say(done ? "Copied " + what : "Copying is not allowed here");
      setTimeout(() => { button.textContent = title || "Copy"; }, 1500);
    });
    return button;
  }

  /** A digest, short, with all of it behind the button. */
  const digest = (text, what) =>
    h("span", { class: "digest" }, h("code", { title: text }, text.length > 20 ? text.slice(0, 12) : text), copyButton(text, what || "the digest"));

  const block = (text, what) => h("div", { class: "block" }, h("pre", { tabindex: "0" }, h("code", {}, text)), copyButton(text, what));

  return { add, load, script, unpack, h, put, count, plural, figure, percent, say, digest, block, copyButton, views: {} };
})();
