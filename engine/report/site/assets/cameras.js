// Cameras of the viewer: a row's own pinhole over its photograph, and cameras that stand so that all of the bodies is seen. Uses THREE.
// three's world is the camera frame (x right, y down, z forward, m) turned by half a turn about x, so up is up and the camera looks along -z.
(function () {
  "use strict";

  /** Smallest box around flat points: {low, high, middle, size}, three numbers each. */
  function bounds(points) {
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < points.length; i++) {
      const axis = i % 3;
      if (points[i] < low[axis]) low[axis] = points[i];
      if (points[i] > high[axis]) high[axis] = points[i];
    }
    return box(low, high);
  }

  const box = (low, high) => ({ low, high, middle: low.map((v, i) => (v + high[i]) / 2), size: high.map((v, i) => v - low[i]) });

  /** Smallest box around boxes, each moved by its offset. */
  function union(boxes, offsets) {
    const low = [0, 1, 2].map((axis) => Math.min(...boxes.map((b, i) => b.low[axis] + offsets[i][axis])));
    const high = [0, 1, 2].map((axis) => Math.max(...boxes.map((b, i) => b.high[axis] + offsets[i][axis])));
    return box(low, high);
  }

  /** Where a window of a photograph lies in an element of width x height, whole and undistorted, and the window that fills all of the element. */
  function contained(window, width, height) {
    const [x0, y0, w, h] = window;
    const scale = Math.min(width / w, height / h);
    const [left, top] = [(width - w * scale) / 2, (height - h * scale) / 2];
    return { left, top, width: w * scale, height: h * scale, filled: [x0 - left / scale, y0 - top / scale, width / scale, height / scale] };
  }

  /** Clip-space matrix of a person's pinhole whose window fills the view: exact, off axis. `reach`: nearest and furthest depth, m. */
  function pinhole(person, window, reach) {
    const [x0, y0, w, h] = window;
    const [fx, fy] = person.focal;
    const [cx, cy] = person.princpt;
    const near = Math.max(0.01, reach[0] - 0.1);
    const far = Math.max(near, reach[1]) + 0.1;
    return new THREE.Matrix4().set(
      (2 * fx) / w, 0, 1 - (2 * (cx - x0)) / w, 0,
      0, (2 * fy) / h, (2 * (cy - y0)) / h - 1, 0,
      0, 0, -(far + near) / (far - near), (-2 * far * near) / (far - near),
      0, 0, -1, 0,
    );
  }

  /** Distance from which a camera that may stand anywhere around a box sees all of it, with a margin. */
  function distance(size, fov, aspect) {
    const half = Math.tan((fov * Math.PI) / 360);
    const across = Math.hypot(size[0], size[2]) / 2;
    return 1.15 * Math.max(size[1] / 2 / half, across / (half * aspect)) + across;
  }

  window.PSEUDOGT_CAMERAS = { bounds, union, contained, pinhole, distance };
})();
