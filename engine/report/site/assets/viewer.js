// Meshes over a photograph, from the side, and to be turned. Uses THREE, PSEUDOGT_BODY (body.js) and PSEUDOGT_CAMERAS (cameras.js).
//
//   const viewer = PSEUDOGT_VIEWER.open(container, persons, {body, window, image, view, faces});
//
// persons: [{pose (72, rad), betas (10), transl (3, m), focal (2), princpt (2) (px of the photograph), colour, label}], or with `vertices`
// (camera frame, m) in place of pose and betas. window: [x0, y0, width, height] of the part of the photograph that is shown, px, edges
// (a photograph's first pixel reaches from -0.5 to 0.5). image: URL of that part. view: "camera", "side" or "free".
// From the side and free, persons stand with their roots in one place; the side is the right-hand one of the photograph, as in
// engine.report.render.side_view: who faces the photographer looks to the left.
(function () {
  "use strict";

  const { bounds, union, contained, pinhole, distance } = PSEUDOGT_CAMERAS;
  const COLOURS = ["#60a5fa", "#fb923c", "#4ade80", "#f472b6", "#facc15", "#a78bfa"];
  const TURN_STEP = Math.PI / 24;
  const FOV = { free: 30, side: 8 };
  const NAMES = { camera: "as the camera sees it", side: "from the side", free: "to be turned: drag, or use the arrow keys" };
  const NO_WEBGL = "This browser cannot draw in 3D (no WebGL), so there is only the picture.";
  const NOT_FINITE = "The numbers of this body are not finite: it cannot be drawn.";

  function make(tag, name, text) {
    const element = document.createElement(tag);
    element.className = name;
    if (text) element.textContent = text;
    return element;
  }

  /** A renderer, or null where the browser has no WebGL: asked first, because three.js would write an error. */
  function makeRenderer() {
    const canvas = make("canvas", "pg-viewer-canvas");
    const context = canvas.getContext("webgl2", { alpha: true, antialias: true });
    if (!context) return null;
    const renderer = new THREE.WebGLRenderer({ canvas, context });
    renderer.setClearColor(0x000000, 0);
    renderer.autoClear = false;
    renderer.shadowMap.enabled = true;
    renderer.shadowMap.type = THREE.PCFShadowMap;
    return renderer;
  }

  /** Lights as in engine.report.render, one that throws the shadow, and the floor for views that have one. */
  function makeScene() {
    const scene = new THREE.Scene();
    const sun = new THREE.DirectionalLight(0xffffff, 2.1);
    const fill = new THREE.DirectionalLight(0xffffff, 0.7);
    const rim = new THREE.DirectionalLight(0xffffff, 0.8);
    sun.position.set(-1.4, 3.6, 2);
    fill.position.set(0.75, -0.05, 0.66);
    rim.position.set(0.5, 0.7, -1);
    sun.shadow.mapSize.set(1024, 1024);
    sun.shadow.radius = 5;
    sun.shadow.bias = -0.002;
    Object.assign(sun.shadow.camera, { left: -2, right: 2, top: 2, bottom: -2, near: 0.5, far: 10 });
    const floor = new THREE.Group();
    const grid = new THREE.GridHelper(4, 16, 0x8a8f99, 0xb8bcc4);
    Object.assign(grid.material, { transparent: true, opacity: 0.45 });
    const ground = new THREE.Mesh(new THREE.PlaneGeometry(4, 4), new THREE.ShadowMaterial({ opacity: 0.2 }));
    ground.rotation.x = -Math.PI / 2;
    ground.receiveShadow = true;
    floor.add(grid, ground);
    scene.add(new THREE.HemisphereLight(0xffffff, 0x9aa0aa, 1.5), sun, fill, rim, floor);
    return { scene, sun, floor, dispose: () => [grid, ground, sun].forEach((part) => (part.geometry ? (part.geometry.dispose(), part.material.dispose()) : part.dispose())) };
  }

  /** A person's mesh in three's world, with its box and root; null if a vertex is not finite. */
  function makeActor(person, options, colour) {
    const posed = person.vertices ? { vertices: person.vertices, root: bounds(person.vertices).middle } : options.body.pose(person);
    if (!posed.vertices.every(Number.isFinite)) return null;
    const turned = posed.vertices.map((value, i) => (i % 3 ? -value : value));
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(turned, 3));
    geometry.setIndex(new THREE.BufferAttribute(person.vertices ? options.faces : options.body.faces, 1));
    geometry.computeVertexNormals();
    const mesh = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ color: new THREE.Color(colour), roughness: 0.7, side: THREE.DoubleSide }));
    mesh.frustumCulled = false;
    mesh.castShadow = true;
    const box = bounds(turned);
    return { person, mesh, box, root: [posed.root[0], -posed.root[1], -posed.root[2]], reach: [-box.high[2], -box.low[2]] };
  }

  /** Actors of one camera share depths. Virtual cameras differ a crop, but depth over focal length does not: the furthest camera comes first. */
  function byCamera(actors) {
    const groups = new Map();
    for (const actor of actors) {
      const key = JSON.stringify([actor.person.focal, actor.person.princpt]);
      groups.set(key, [...(groups.get(key) || []), actor]);
    }
    const depth = ([actor]) => -actor.box.middle[2] / actor.person.focal[0];
    return [...groups.values()].sort((a, b) => depth(b) - depth(a));
  }

  const reachOf = (group) => [Math.min(...group.map((a) => a.reach[0])), Math.max(...group.map((a) => a.reach[1]))];

  function open(container, persons, options) {
    let view = options.view || "camera";
    let wireframe = false;
    let opacity = 1;
    let actors = [];
    let groups = [];
    let turned = false;
    let sized = false;

    container.classList.add("pg-viewer");
    container.setAttribute("role", "group");
    container.replaceChildren();
    const photo = make("img", "pg-viewer-photo");
    photo.alt = "";
    if (options.image) {
      photo.src = options.image;
      container.append(photo);
    }
    const renderer = makeRenderer();
    if (!renderer) {
      container.append(make("p", "pg-viewer-none", NO_WEBGL));
      const nothing = () => {};
      return { ok: false, setView: nothing, setPersons: nothing, setWireframe: nothing, setOpacity: nothing, resize: nothing, dispose: () => container.replaceChildren() };
    }
    const canvas = renderer.domElement;
    const legend = make("div", "pg-viewer-legend");
    const told = make("p", "pg-viewer-none", NOT_FINITE);
    container.append(canvas, legend, told);

    const { scene, sun, floor, dispose: disposeScene } = makeScene();
    const still = new THREE.PerspectiveCamera();
    const orbit = new THREE.PerspectiveCamera(FOV.free, 1);
    const controls = new THREE.OrbitControls(orbit, canvas);
    controls.enablePan = false;
    controls.enableZoom = false;
    controls.addEventListener("change", () => render());
    controls.addEventListener("start", () => (turned = true));

    function clearActors() {
      for (const { mesh } of actors) {
        scene.remove(mesh);
        mesh.geometry.dispose();
        mesh.material.dispose();
      }
      actors = [];
    }

    function setPersons(list) {
      clearActors();
      legend.replaceChildren();
      list.forEach((person, i) => {
        const colour = person.colour || COLOURS[i % COLOURS.length];
        const actor = makeActor(person, options, colour);
        if (actor) actors.push(actor);
        if (list.length > 1) {
          const line = make("span", "", person.label || "person " + (i + 1));
          const dot = make("i", "");
          dot.style.background = colour;
          line.prepend(dot);
          legend.append(line);
        }
      });
      told.hidden = actors.length === list.length;
      groups = byCamera(actors);
      for (const { mesh } of actors) scene.add(mesh);
      applyLook();
      place();
    }

    function applyLook() {
      for (const { mesh } of actors) mesh.material.wireframe = wireframe;
      canvas.style.opacity = view === "camera" ? opacity : 1;
    }

    /** Puts meshes, floor and the turning camera where the view wants them. A view that was turned by hand stays so. */
    function place() {
      const over = view === "camera";
      controls.enabled = view === "free";
      canvas.style.touchAction = view === "free" ? "pan-y" : "auto"; // a finger that goes up or down scrolls the page
      photo.style.visibility = over ? "visible" : "hidden";
      container.dataset.view = view;
      container.tabIndex = view === "free" ? 0 : -1;
      container.setAttribute("aria-label", "Body mesh, " + NAMES[view]);
      floor.visible = sun.castShadow = !over && actors.length > 0;
      for (const { mesh, root } of actors) mesh.position.set(...(over ? [0, 0, 0] : root.map((v) => -v)));
      if (!over && actors.length) {
        const all = union(actors.map((a) => a.box), actors.map((a) => a.root.map((v) => -v)));
        floor.position.set(all.middle[0], all.low[1], all.middle[2]);
        sun.target.position.set(...all.middle);
        sun.position.set(all.middle[0] - 1.4, all.middle[1] + 3.6, all.middle[2] + 2);
        sun.target.updateMatrixWorld();
        if (!turned) frame(all);
      }
      render();
    }

    function frame({ middle, size }) {
      orbit.fov = FOV[view];
      const away = distance(size, orbit.fov, orbit.aspect);
      const from = view === "side" ? [1, 0.02, 0] : [0.34, 0.16, 0.93];
      orbit.near = away / 50;
      orbit.far = away * 4 + 20;
      orbit.updateProjectionMatrix();
      controls.minDistance = away / 6;
      controls.maxDistance = away * 3;
      controls.target.set(...middle);
      orbit.position.set(...middle.map((v, i) => v + away * from[i]));
      controls.update();
    }

    function render() {
      if (!sized) return;
      renderer.clear();
      if (view !== "camera") {
        for (const { mesh } of actors) mesh.visible = true;
        renderer.render(scene, orbit);
        return;
      }
      const { filled } = contained(options.window, container.clientWidth || 1, container.clientHeight || 1);
      for (const group of groups) {
        for (const actor of actors) actor.mesh.visible = group.includes(actor);
        still.projectionMatrix.copy(pinhole(group[0].person, filled, reachOf(group)));
        still.projectionMatrixInverse.copy(still.projectionMatrix).invert();
        renderer.clearDepth();
        renderer.render(scene, still);
      }
    }

    function resize() {
      const [width, height] = [Math.max(1, container.clientWidth), Math.max(1, container.clientHeight)];
      const photoAt = contained(options.window, width, height);
      for (const side of ["left", "top", "width", "height"]) photo.style[side] = photoAt[side] + "px";
      renderer.setPixelRatio(Math.min(2, window.devicePixelRatio || 1));
      renderer.setSize(width, height, false);
      orbit.aspect = width / height;
      orbit.updateProjectionMatrix();
      sized = true;
      place();
    }

    const KEYS = {
      ArrowLeft: () => controls.rotateLeft(TURN_STEP),
      ArrowRight: () => controls.rotateLeft(-TURN_STEP),
      ArrowUp: () => controls.rotateUp(TURN_STEP),
      ArrowDown: () => controls.rotateUp(-TURN_STEP),
      "+": () => controls.dollyIn(1.15),
      "-": () => controls.dollyOut(1.15),
    };

    function onKey(event) {
      if (view !== "free" || !KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      turned = true;
      KEYS[event.key]();
    }

    // The wheel scrolls the page until somebody has clicked the body: only then it comes closer.
    const onPress = () => view === "free" && container.focus({ preventScroll: true });
    const onFocus = () => (controls.enableZoom = true);
    const onBlur = () => (controls.enableZoom = false);
    const listeners = [["keydown", onKey], ["pointerdown", onPress, true], ["focusin", onFocus], ["focusout", onBlur]];
    for (const [name, act, capture] of listeners) container.addEventListener(name, act, Boolean(capture));
    canvas.addEventListener("webglcontextrestored", () => render());
    const watcher = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(resize);

    function dispose() {
      if (watcher) watcher.disconnect();
      for (const [name, act, capture] of listeners) container.removeEventListener(name, act, Boolean(capture));
      clearActors();
      disposeScene();
      controls.dispose();
      renderer.dispose();
      renderer.forceContextLoss();
      container.replaceChildren();
    }

    setPersons(persons);
    resize();
    if (watcher) watcher.observe(container);
    return {
      ok: true,
      resize,
      dispose,
      setPersons,
      setView(name) {
        view = name;
        turned = false;
        applyLook();
        place();
      },
      setWireframe(on) {
        wireframe = Boolean(on);
        applyLook();
        render();
      },
      /** How much of the photograph shines through: of the drawing as a whole, so that no limb shines through another. */
      setOpacity(value) {
        opacity = Math.min(1, Math.max(0.05, Number(value)));
        applyLook();
      },
      /** The drawing as the URL of a PNG, transparent where nothing is drawn. */
      picture() {
        render();
        return canvas.toDataURL("image/png");
      },
      /** Pixel of the photograph of a point (camera frame, m) of person i in the camera view: through the very matrix that draws it. */
      project(i, point) {
        const { filled } = contained(options.window, container.clientWidth, container.clientHeight);
        const group = groups.find((actors_) => actors_.includes(actors[i]));
        const clip = new THREE.Vector3(point[0], -point[1], -point[2]).applyMatrix4(pinhole(actors[i].person, filled, reachOf(group)));
        return [filled[0] + ((clip.x + 1) / 2) * filled[2], filled[1] + ((1 - clip.y) / 2) * filled[3]];
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
