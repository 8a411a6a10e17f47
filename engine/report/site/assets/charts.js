/* Histograms as inline SVG, drawn as wide as there is room, so that their text keeps its size. */
"use strict";
(function () {
  const { h, count, figure } = PSEUDOGT;
  const HEIGHT = 170;
  const EDGE = { left: 6, right: 6, top: 16, bottom: 24 };

  /** The bins worth drawing: a whole scale from 0 to 1 stays whole, another one is cut to where somebody is. */
  function drawn(counts, edges) {
    const bins = counts.map((n, i) => ({ n, from: i ? edges[i - 1] : -Infinity, to: i < edges.length ? edges[i] : Infinity }));
    const whole = edges[0] === 0 && edges[edges.length - 1] === 1;
    let first = bins.findIndex((bin) => bin.n > 0);
    let last = bins.length - 1 - [...bins].reverse().findIndex((bin) => bin.n > 0);
    if (first < 0) return [];
    if (whole) { first = Math.min(first, 1); last = Math.max(last, bins.length - 2); }
    else { first = Math.max(edges[0] === 0 ? Math.min(first, 1) : 1, Math.min(first, first - 1)); last = Math.min(last + 1, bins.length - 1); }
    return bins.slice(Math.max(0, Math.min(first, bins.findIndex((bin) => bin.n > 0))), last + 1);
  }

  /** Bin of the median. */
  function median(counts, edges) {
    const total = counts.reduce((a, b) => a + b, 0);
    let seen = 0;
    for (let i = 0; i < counts.length; i++) {
      seen += counts[i];
      if (total && seen > (total - 1) / 2) return { from: i ? edges[i - 1] : -Infinity, to: i < edges.length ? edges[i] : Infinity };
    }
    return null;
  }

  const range = (bin) => bin.from === -Infinity ? "below " + figure(bin.to) : bin.to === Infinity ? figure(bin.from) + " or more"
    : figure(bin.from) + " to " + figure(bin.to);

  function svg(width, counts, edges, label) {
    const bins = drawn(counts, edges);
    const most = Math.max(1, ...bins.map((bin) => bin.n));
    const total = counts.reduce((a, b) => a + b, 0);
    const inner = width - EDGE.left - EDGE.right;
    const tall = HEIGHT - EDGE.top - EDGE.bottom;
    const step = inner / bins.length;
    const x = (i) => EDGE.left + i * step;
    const picture = h("svg", { class: "chart", width, height: HEIGHT, viewBox: "0 0 " + width + " " + HEIGHT, role: "img", "aria-label": label });
    bins.forEach((bin, i) => {
      const tip = range(bin) + ": " + count(bin.n) + " (" + PSEUDOGT.percent(bin.n / total) + ")";
      const size = bin.n ? Math.max(1, (bin.n / most) * tall) : 0;
      picture.append(h("g", {}, h("title", {}, tip),
        h("rect", { class: "hit", x: x(i), y: EDGE.top, width: step, height: tall }),
        h("rect", { class: "bar", x: x(i) + Math.min(1, step / 8), y: EDGE.top + tall - size, width: Math.max(0.5, step - Math.min(2, step / 4)), height: size })));
    });
    picture.append(h("line", { class: "axis", x1: EDGE.left, x2: width - EDGE.right, y1: EDGE.top + tall, y2: EDGE.top + tall }));
    const middle = median(counts, edges);
    const at = middle ? bins.findIndex((bin) => bin.from === middle.from) : -1;
    if (at >= 0) {
      const place = x(at) + step / 2;
      picture.append(h("line", { class: "median", x1: place, x2: place, y1: EDGE.top - 2, y2: EDGE.top + tall }));
      picture.append(h("text", { class: "mark", x: Math.min(width - 34, Math.max(34, place)), y: 11, "text-anchor": "middle" }, "median"));
    }
    let free = -Infinity;
    for (const [value, at] of ticks(bins, Math.floor(width / 56))) {
      if (x(at) < free) continue;
      const place = x(at) < EDGE.left + 8 ? "start" : x(at) > width - EDGE.right - 8 ? "end" : "middle";
      picture.append(h("text", { class: "tick", x: x(at), y: HEIGHT - 8, "text-anchor": place }, String(Number(value.toPrecision(3)))));
      free = x(at) + 44;
    }
    return picture;
  }

  /** Round numbers below a histogram, with their places counted in bins: between edges where these are not round themselves. */
  function ticks(bins, most) {
    const edges = bins.map((bin) => bin.from).concat(bins[bins.length - 1].to);
    const known = edges.map((value, i) => [value, i]).filter(([value]) => Number.isFinite(value));
    if (known.length < 2) return known;
    const [low, high] = [known[0][0], known[known.length - 1][0]];
    const even = known.every(([value], i) => i === 0 || Math.abs(value - known[i - 1][0] - (known[1][0] - low)) < 1e-6);
    if (!even && known.every(([value]) => Number(value.toPrecision(2)) === value)) return known;
    const round = [];
    if (even) {
      const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100];
      const step = steps.find((wanted) => (high - low) / wanted <= most) || 200;
      for (let i = Math.ceil(low / step - 1e-6); i * step <= high + 1e-6; i++) round.push(i * step);
    } else {
      for (let power = -6; power < 6; power++) for (const digit of [1, 2, 5]) round.push(digit * 10 ** power);
    }
    return round.filter((value) => value >= low - 1e-6 && value <= high + 1e-6).map((value) => {
      const i = Math.min(known.length - 2, Math.max(0, known.findIndex(([edge]) => edge > value) - 1));
      const [[from, at], [to]] = [known[i], known[i + 1]];
      return [value, value >= high ? known[known.length - 1][1] : at + (value - from) / (to - from)];
    });
  }

  /** A histogram that keeps the width of its place: counts has one more bin than there are edges. */
  function histogram(counts, edges, what) {
    const total = counts.reduce((a, b) => a + b, 0);
    if (!total) return h("p", { class: "nothing" }, "Nobody in this release has this figure.");
    const middle = median(counts, edges);
    const label = what + ", " + count(total) + " persons, median " + range(middle);
    const place = h("div", { class: "chart-place" });
    let width = 0;
    new ResizeObserver(() => {
      const now = Math.floor(place.clientWidth);
      if (now && now !== width) { width = now; place.replaceChildren(svg(width, counts, edges, label)); }
    }).observe(place);
    return place;
  }

  PSEUDOGT.charts = { histogram, median, range };
})();
