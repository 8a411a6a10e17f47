// The body in the browser: from pose and shape to vertices, as engine/body/lbs.py computes them (SMPL without pose correctives).
// Metres, camera frame (x right, y down, z forward). Arrays are flat: V vertices, 24 joints, K weights a vertex.
(function () {
  "use strict";

  const JOINTS = 24;
  const KINDS = { f4: Float32Array, u2: Uint16Array, u1: Uint8Array, i2: Int16Array };

  function unpack(text, kind) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new KINDS[kind](bytes.buffer);
  }

  // Axis-angle (rad) to a rotation matrix, row by row.
  function rotation(x, y, z) {
    const angle = Math.hypot(x, y, z);
    if (angle < 1e-12) return [1, 0, 0, 0, 1, 0, 0, 0, 1];
    const [a, b, c] = [x / angle, y / angle, z / angle];
    const [s, k] = [Math.sin(angle), 1 - Math.cos(angle)];
    return [
      1 - k * (b * b + c * c), k * a * b - s * c, k * a * c + s * b,
      k * a * b + s * c, 1 - k * (a * a + c * c), k * b * c - s * a,
      k * a * c - s * b, k * b * c + s * a, 1 - k * (a * a + b * b),
    ];
  }

  function decode(values) {
    const template = unpack(values.template, "f4");
    const shape = unpack(values.shapedirs, "f4");
    const rest = unpack(values.rest_joints, "f4");
    const restShape = unpack(values.rest_joints_shape, "f4");
    const bones = unpack(values.bones, "u1");
    const weights = unpack(values.weights, "f4");
    const faces = unpack(values.faces, "u2");
    const parents = values.parents;
    const betas = restShape.length / rest.length;
    const V = template.length / 3;
    const K = weights.length / V;

    // 24 bones' transforms (rotation 9, translation 3), from which the rest pose's joints are taken off, and the posed joints.
    function posedBones(pose, shaped) {
      const joints = new Float64Array(JOINTS * 3);
      for (let i = 0; i < joints.length; i++) {
        joints[i] = rest[i];
        for (let b = 0; b < betas; b++) joints[i] += restShape[i * betas + b] * shaped[b];
      }
      const transforms = new Float64Array(JOINTS * 12);
      const posed = new Float64Array(JOINTS * 3);
      for (let j = 0; j < JOINTS; j++) {
        const own = rotation(pose[3 * j], pose[3 * j + 1], pose[3 * j + 2]);
        const p = parents[j];
        for (let r = 0; r < 3; r++) {
          for (let c = 0; c < 3; c++) {
            let value = own[3 * r + c];
            if (p >= 0) {
              value = 0;
              for (let m = 0; m < 3; m++) value += transforms[12 * p + 3 * r + m] * own[3 * m + c];
            }
            transforms[12 * j + 3 * r + c] = value;
          }
          let at = joints[3 * j + r];
          if (p >= 0) {
            at = posed[3 * p + r];
            for (let m = 0; m < 3; m++) at += transforms[12 * p + 3 * r + m] * (joints[3 * j + m] - joints[3 * p + m]);
          }
          posed[3 * j + r] = at;
        }
      }
      for (let j = 0; j < JOINTS; j++) {
        for (let r = 0; r < 3; r++) {
          let t = posed[3 * j + r];
          for (let m = 0; m < 3; m++) t -= transforms[12 * j + 3 * r + m] * joints[3 * j + m];
          transforms[12 * j + 9 + r] = t;
        }
      }
      return { transforms, posed };
    }

    // Vertices (3 V) of a person, `transl` added; and the posed pelvis.
    function pose(person) {
      const { transforms, posed } = posedBones(person.pose, person.betas);
      const t = person.transl || [0, 0, 0];
      const out = new Float32Array(3 * V);
      const v = [0, 0, 0];
      for (let i = 0; i < V; i++) {
        for (let r = 0; r < 3; r++) {
          v[r] = template[3 * i + r];
          for (let b = 0; b < betas; b++) v[r] += shape[(3 * i + r) * betas + b] * person.betas[b];
        }
        for (let r = 0; r < 3; r++) {
          let sum = 0;
          for (let k = 0; k < K; k++) {
            const w = weights[K * i + k];
            if (w === 0) continue;
            const at = 12 * bones[K * i + k];
            sum += w * (transforms[at + 3 * r] * v[0] + transforms[at + 3 * r + 1] * v[1] + transforms[at + 3 * r + 2] * v[2] + transforms[at + 9 + r]);
          }
          out[3 * i + r] = sum + t[r];
        }
      }
      return { vertices: out, root: [posed[0] + t[0], posed[1] + t[1], posed[2] + t[2]] };
    }

    return { faces, pose, vertexCount: V };
  }

  // Posed vertices that were quantised in Python (engine/report/site/body_data.py): {scale, origin, values: int16}.
  function decodeMesh(mesh) {
    const whole = unpack(mesh.values, "i2");
    const out = new Float32Array(whole.length);
    for (let i = 0; i < whole.length; i++) out[i] = whole[i] * mesh.scale + mesh.origin[i % 3];
    return out;
  }

  window.PSEUDOGT_BODY = { decode, decodeMesh, unpack };
})();
