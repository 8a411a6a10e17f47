/* A grid of ten thousand cards of which only those in sight are in the page. The page scrolls; the grid follows. */
"use strict";
(function () {
  const { h } = PSEUDOGT;
  const GAP = 12;
  const BEYOND = 2;

  /** A grid in `place`. makeCard(item, number) gives a card's element. Returns {show(items), close()}. */
  function grid(place, { smallest, below, wide, label, makeCard }) {
    const box = h("div", { class: "grid", role: "list", "aria-label": label });
    place.append(box);
    let items = [];
    let cards = new Map();
    let waiting = 0;
    let columns = 0;
    let size = 0;

    function draw() {
      waiting = 0;
      const width = box.clientWidth;
      if (!width) return;
      const wanted = Math.max(width < 500 ? (wide ? 1 : 2) : 1, Math.floor((width + GAP) / (smallest + GAP)));
      const side = (width - GAP * (wanted - 1)) / wanted;
      if (wanted !== columns || side !== size) {
        columns = wanted;
        size = side;
        cards.forEach((card) => card.remove());
        cards = new Map();
      }
      const tall = (wide ? side / 2 : side) + below + GAP;
      box.style.height = Math.ceil(items.length / columns) * tall + "px";
      const top = -box.getBoundingClientRect().top;
      const first = Math.max(0, (Math.floor(top / tall) - BEYOND) * columns);
      const last = Math.min(items.length, (Math.ceil((top + window.innerHeight) / tall) + BEYOND) * columns);
      for (const [number, card] of cards) if (number < first || number >= last) { card.remove(); cards.delete(number); }
      let before = null;
      for (let number = first; number < last; number++) {
        let card = cards.get(number);
        if (!card) {
          card = makeCard(items[number], number);
          card.setAttribute("role", "listitem");
          card.setAttribute("aria-posinset", number + 1);
          card.setAttribute("aria-setsize", items.length);
          Object.assign(card.style, { width: side + "px", height: tall - GAP + "px",
            transform: "translate(" + (number % columns) * (side + GAP) + "px," + Math.floor(number / columns) * tall + "px)" });
          cards.set(number, card);
          if (before) before.after(card); else box.prepend(card);
        }
        before = card;
      }
    }

    const soon = () => { if (!waiting) waiting = requestAnimationFrame(draw); };
    const watcher = new ResizeObserver(soon);
    watcher.observe(box);
    window.addEventListener("scroll", soon, { passive: true });
    window.addEventListener("resize", soon);
    return {
      show(found) {
        items = found;
        cards.forEach((card) => card.remove());
        cards = new Map();
        draw();
      },
      close() {
        watcher.disconnect();
        window.removeEventListener("scroll", soon);
        window.removeEventListener("resize", soon);
      },
    };
  }

  PSEUDOGT.grid = grid;
})();
