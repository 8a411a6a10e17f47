// Meshes over a photograph, from the side, and to be turned. Uses THREE (three.js) and PSEUDOGT_BODY (body.js).
//
//   const viewer = PSEUDOGT_VIEWER.open(container, persons, {body, window, image, view, faces});
//
// persons: [{pose (72, rad), betas (10), transl (3, m), focal (2), princpt (2) (px of the photograph), colour, label}], or with `vertices`
// (camera frame, m) in place of pose and betas. window: [x0, y0, width, height] of the part of the photograph that is shown, px, edges
// (a photograph's first pixel reaches from -0.5 to 0.5). image: URL of that part. view: "camera", "side" or "free".
// The camera frame is x right, y down, z forward; three's world is the same turned by half a turn about x, so up is up.
(function () {
  "use strict";

  const COLOURS = ["#5b9bd5", "#f0883e", "#7bc47f", "#c586c0"];
  const TURN_STEP = Math.PI / 24;
  const NO_WEBGL = "This browser cannot draw in 3D (no WebGL), so there is only the picture.";

  // Clip-space matrix of a pinhole whose window fills the view: exact, off axis.
  function pinhole(person, window, near, far) {
    const [x0, y0, w, h] = window;
    const [fx, fy] = person.focal;
    const [cx, cy] = person.princpt;
    const m = new THREE.Matrix4();
    m.set(
      (2 * fx) / w, 0, 1 - (2 * (cx - x0)) / w, 0,
      0, (2 * fy) / h, (2 * (cy - y0)) / h - 1, 0,
      0, 0, -(far + near) / (far - near), (-2 * far * near) / (far - near),
      0, 0, -1, 0,
    );
    return m;
  }

  function bounds(points) {
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < points.length; i++) {
      const axis = i % 3;
      if (points[i] < low[axis]) low[axis] = points[i];
      if (points[i] > high[axis]) high[axis] = points[i];
    }
    return { low, high, middle: low.map((v, i) => (v + high[i]) / 2), size: high.map((v, i) => v - low[i]) };
  }

  function open(container, persons, options) {
    const body = options.body || null;
    let view = options.view || "camera";
    let wireframe = false;
    let opacity = 1;
    let actors = [];

    container.classList.add("pg-viewer");
    container.replaceChildren();
    container.tabIndex = 0;
    container.setAttribute("role", "img");
    const picture = document.createElement("img");
    picture.alt = "";
    picture.className = "pg-viewer-photo";
    if (options.image) picture.src = options.image;
    const legend = document.createElement("div");
    legend.className = "pg-viewer-legend";

    let renderer;
    try {
      renderer = new THREE.WebGLRenderer({ alpha: true, antialias: true, preserveDrawingBuffer: true });
    } catch (error) {
      const told = document.createElement("p");
      told.className = "pg-viewer-none";
      told.textContent = NO_WEBGL;
      if (options.image) container.append(picture);
      container.append(told);
      const nothing = () => {};
      return { setView: nothing, setPersons: nothing, setWireframe: nothing, setOpacity: nothing, resize: nothing, dispose: () => container.replaceChildren(), ok: false };
    }
    renderer.setClearColor(0x000000, 0);
    renderer.autoClear = false;
    const canvas = renderer.domElement;
    canvas.className = "pg-viewer-canvas";
    if (options.image) container.append(picture);
    container.append(canvas, legend);

    const scene = new THREE.Scene();
    const stage = new THREE.Group();
    scene.add(new THREE.HemisphereLight(0xffffff, 0x8a8f99, 1.6));
    const sun = new THREE.DirectionalLight(0xffffff, 1.8);
    sun.position.set(0.6, 1, 1);
    scene.add(sun, stage);
    let grid = null;

    const still = new THREE.PerspectiveCamera();
    still.matrixAutoUpdate = false;
    const orbit = new THREE.PerspectiveCamera(35, 1, 0.05, 100);
    const controls = new THREE.OrbitControls(orbit, canvas);
    controls.enablePan = false;
    controls.addEventListener("change", () => view === "free" && render());

    function clearActors() {
      for (const actor of actors) {
        stage.remove(actor.mesh);
        actor.mesh.geometry.dispose();
        actor.mesh.material.dispose();
      }
      actors = [];
    }

    function setPersons(list) {
      clearActors();
      legend.replaceChildren();
      list.forEach((person, i) => {
        const posed = person.vertices ? { vertices: person.vertices, root: bounds(person.vertices).middle } : body.pose(person);
        const turned = new Float32Array(posed.vertices.length);
        for (let k = 0; k < turned.length; k += 3) {
          turned[k] = posed.vertices[k];
          turned[k + 1] = -posed.vertices[k + 1];
          turned[k + 2] = -posed.vertices[k + 2];
        }
        const geometry = new THREE.BufferGeometry();
        geometry.setAttribute("position", new THREE.BufferAttribute(turned, 3));
        geometry.setIndex(new THREE.BufferAttribute(person.vertices ? options.faces : body.faces, 1));
        geometry.computeVertexNormals();
        const colour = person.colour || COLOURS[i % COLOURS.length];
        const material = new THREE.MeshStandardMaterial({ color: new THREE.Color(colour), roughness: 0.75, side: THREE.DoubleSide });
        const mesh = new THREE.Mesh(geometry, material);
        mesh.frustumCulled = false;
        stage.add(mesh);
        actors.push({ person, mesh, box: bounds(turned), root: [posed.root[0], -posed.root[1], -posed.root[2]] });
        if (list.length > 1) {
          const line = document.createElement("span");
          const dot = document.createElement("i");
          dot.style.background = colour;
          line.append(dot, document.createTextNode(person.label || "person " + (i + 1)));
          legend.append(line);
        }
      });
      applyLook();
      place();
    }

    function applyLook() {
      for (const { mesh } of actors) {
        mesh.material.wireframe = wireframe;
        mesh.material.transparent = opacity < 1;
        mesh.material.opacity = opacity;
        mesh.material.needsUpdate = true;
      }
    }

    // Puts meshes and cameras where the view wants them.
    function place() {
      if (grid) {
        scene.remove(grid);
        grid.geometry.dispose();
        grid.material.dispose();
        grid = null;
      }
      controls.enabled = view === "free";
      canvas.style.touchAction = view === "free" ? "none" : "auto";
      picture.style.visibility = view === "camera" ? "visible" : "hidden";
      container.dataset.view = view;
      const names = { camera: "as the camera sees it", side: "from the side", free: "to be turned: drag, or use the arrow keys" };
      container.setAttribute("aria-label", "Body mesh, " + names[view]);
      for (const { mesh, root, box } of actors) {
        mesh.position.set(0, 0, 0);
        mesh.rotation.set(0, 0, 0);
        if (view === "side") {
          // A quarter turn about the vertical through the body's middle; the camera stays.
          const [x, , z] = box.middle;
          mesh.rotation.y = Math.PI / 2;
          mesh.position.set(x - z, 0, z + x);
        } else if (view === "free") {
          mesh.position.set(-root[0], -root[1], -root[2]);
        }
        mesh.updateMatrixWorld();
      }
      if (view === "free" && actors.length) {
        const lows = actors.map((a) => a.box.low[1] - a.root[1]);
        const highs = actors.map((a) => a.box.high[1] - a.root[1]);
        const low = Math.min(...lows);
        const high = Math.max(...highs);
        const reach = Math.max(high - low, ...actors.map((a) => Math.max(a.box.size[0], a.box.size[2])));
        grid = new THREE.GridHelper(4, 16, 0x8a8f99, 0xb8bcc4);
        grid.position.y = low;
        grid.material.transparent = true;
        grid.material.opacity = 0.5;
        scene.add(grid);
        const middle = (low + high) / 2;
        const away = (reach * 0.62) / Math.tan((orbit.fov * Math.PI) / 360) / Math.min(1, orbit.aspect) + 0.3;
        controls.target.set(0, middle, 0);
        orbit.position.set(away * 0.35, middle + away * 0.12, away * 0.93);
        controls.minDistance = 0.5;
        controls.maxDistance = 20;
        controls.update();
      }
      render();
    }

    function render() {
      renderer.clear();
      if (view === "free") {
        for (const { mesh } of actors) mesh.visible = true;
        renderer.render(scene, orbit);
        return;
      }
      // Every person has a camera of their own, so depths of two persons do not compare: the later is drawn over the earlier.
      for (const actor of actors) {
        for (const { mesh } of actors) mesh.visible = mesh === actor.mesh;
        const depth = -actor.box.middle[2];
        const reach = Math.max(...actor.box.size) + 1;
        still.projectionMatrix.copy(pinhole(actor.person, options.window, Math.max(0.01, depth - reach), depth + reach));
        still.projectionMatrixInverse.copy(still.projectionMatrix).invert();
        renderer.clearDepth();
        renderer.render(scene, still);
      }
    }

    function resize() {
      const width = Math.max(1, container.clientWidth);
      const height = Math.max(1, container.clientHeight);
      renderer.setPixelRatio(Math.min(2, window.devicePixelRatio || 1));
      renderer.setSize(width, height, false);
      orbit.aspect = width / height;
      orbit.updateProjectionMatrix();
      render();
    }

    function onKey(event) {
      if (view !== "free") return;
      const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const turn = turns[event.key];
      if (!turn) return;
      event.preventDefault();
      event.stopPropagation();
      const around = new THREE.Spherical().setFromVector3(orbit.position.clone().sub(controls.target));
      around.theta += turn[0] * TURN_STEP;
      around.phi = Math.min(Math.PI - 0.05, Math.max(0.05, around.phi + turn[1] * TURN_STEP));
      orbit.position.setFromSpherical(around).add(controls.target);
      controls.update();
    }
    container.addEventListener("keydown", onKey);
    const watcher = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(resize);

    // Pixel (of the photograph) of a point of person i in the camera view: through the very matrix that draws it.
    function project(i, point) {
      const { person, box } = actors[i];
      const depth = -box.middle[2];
      const clip = new THREE.Vector3(point[0], -point[1], -point[2]).applyMatrix4(pinhole(person, options.window, Math.max(0.01, depth - 3), depth + 3));
      const [x0, y0, w, h] = options.window;
      return [x0 + ((clip.x + 1) / 2) * w, y0 + ((1 - clip.y) / 2) * h];
    }

    function dispose() {
      if (watcher) watcher.disconnect();
      container.removeEventListener("keydown", onKey);
      clearActors();
      controls.dispose();
      renderer.dispose();
      renderer.forceContextLoss();
      container.replaceChildren();
    }

    setPersons(persons);
    resize();
    place();
    if (watcher) watcher.observe(container);
    return {
      ok: true,
      canvas,
      project,
      resize,
      dispose,
      setPersons,
      setView(name) {
        view = name;
        place();
      },
      setWireframe(on) {
        wireframe = Boolean(on);
        applyLook();
        render();
      },
      setOpacity(value) {
        opacity = Math.min(1, Math.max(0.05, Number(value)));
        applyLook();
        render();
      },
      get view() {
        return view;
      },
      get eye() {
        return orbit.position.toArray();
      },
    };
  }

  window.PSEUDOGT_VIEWER = { open };
})();
