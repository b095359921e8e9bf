// One view of a study: three planes and 3-D, with layers, drawn by NiiVue.

import { bytes } from "./api.js";
import { text } from "./texts.js";

//: Colours of labels as in the report: told apart by people with any colour vision and against grey.
const NAMED = { ncr: [213, 94, 0], edema: [86, 180, 233], et: [240, 228, 66] };
const FURTHER = [[86, 180, 233], [230, 159, 0], [0, 158, 115], [204, 121, 167], [240, 228, 66], [213, 94, 0]];
//: From 0 to 1 in equal steps, as in the report: dark violet over orange to light yellow.
export const HEAT = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
//: Uncertainty below this is not coloured, so that the anatomy shows.
const COLOURED = 0.1;
const PLANES = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
//: How far the cross goes for a key: towards the patient's right, front and head, in voxels.
const STEPS = {
  ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};
const TURNS = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };

let library = null;

/** Load NiiVue when the first picture is wanted. */
async function niivue() {
  library ??= import("./vendor/niivue/niivue.umd.js").then(() => globalThis.niivue);
  return library;
}

/** Whether this browser can draw. */
export function canDraw() {
  canDraw.known ??= Boolean(document.createElement("canvas").getContext("webgl2"));
  return canDraw.known;
}

/** Colour of each label: name to [red, green, blue]. */
export function labelColours(labels) {
  return Object.fromEntries(Object.keys(labels).map((name, index) => [name, NAMED[name] ?? FURTHER[index % FURTHER.length]]));
}

export class Viewer {
  /** Make a view in a box; `tell` is given what lies under the cross. */
  constructor(box, canvas, tell) {
    this.canvas = canvas;
    this.tell = tell;
    this.order = 0;
    this.loaded = new Map();
    this.layers = [];
    // NiiVue's own keys would answer too, one of them with an alert.
    box.addEventListener("keydown", (event) => this.#key(event), true);
    box.addEventListener("keyup", (event) => event.stopPropagation(), true);
  }

  async #start() {
    const { Niivue, cmapper } = await niivue();
    const view = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.48, 0.72, 0.96, 0.9], crosshairWidth: 1, crosshairWidthUnit: "percent", crosshairGap: 8, fontColor: [0.85, 0.87, 0.9, 1],
      isRadiologicalConvention: true, dragAndDropEnabled: false, loadingText: "", logLevel: "error", show3Dcrosshair: true,
      multiplanarShowRender: 1, multiplanarPadPixels: 4, fontMinPx: 12, scrollRequiresFocus: true,
    });
    await view.attachToCanvas(this.canvas);
    cmapper.addColormap("anymri-heat", {
      R: HEAT.map((colour) => colour[0]), G: HEAT.map((colour) => colour[1]), B: HEAT.map((colour) => colour[2]),
      A: [0, 160, 220, 255, 255], I: HEAT.map((_, index) => Math.round((255 * index) / (HEAT.length - 1))),
    });
    view.onLocationChange = (place) => this.#place(place);
    return view;
  }

  /** Show layers, the image first: list of {href, kind, name, labels, strength}. */
  async show(layers) {
    const order = ++this.order;
    this.view ??= this.#start();
    const view = await this.view;
    const volumes = await Promise.all(layers.map((layer) => this.#load(layer)));
    if (order !== this.order) return; // something else was asked for meanwhile
    this.layers = layers;
    volumes.forEach((volume, index) => (volume.opacity = index ? layers[index].strength : 1));
    const place = view.volumes.length ? view.frac2mm(view.scene.crosshairPos, 0, true) : null;
    view.volumes = volumes;
    view.setVolume(volumes[0], 0);
    if (place) view.scene.crosshairPos = view.mm2frac(place, 0, true);
    this.#centre(view, layers, volumes);
    view.drawScene();
    view.createOnLocationChange();
  }

  /** Strength of a kind of layer, 0 to 1. */
  async strength(kind, value) {
    const view = await this.view;
    const index = this.layers.findIndex((layer) => layer.kind === kind);
    if (view && index > 0) view.setOpacity(index, value);
  }

  /** Planes to show: a key of PLANES. */
  async planes(name) {
    this.shown = name;
    const view = await this.view;
    if (view && view.opts.sliceType !== PLANES[name]) view.setSliceType(PLANES[name]);
  }

  /** Let the cross of this view move that of another, and the other way round. */
  async link(other) {
    const [one, two] = await Promise.all([this.view, other.view]);
    one.broadcastTo(two, { "2d": true, "3d": true });
    two.broadcastTo(one, { "2d": true, "3d": true });
    two.scene.crosshairPos = two.mm2frac(one.frac2mm(one.scene.crosshairPos, 0, true), 0, true);
    two.drawScene();
    two.createOnLocationChange();
  }

  /** Let nothing of another view follow this one. */
  async unlink() {
    (await this.view)?.broadcastTo([], {});
  }

  /** Forget images of another study. */
  forget() {
    this.loaded.clear();
    this.centred = false;
  }

  async #load({ href, kind, name, labels }) {
    const key = `${kind} ${href}`;
    if (!this.loaded.has(key)) {
      const { NVImage } = await niivue();
      const options = { image: { colormap: "gray", percentileFrac: 0.005, ignoreZeroVoxels: true } }[kind]
        ?? (kind === "segmentation" ? {} : { colormap: "anymri-heat", cal_min: COLOURED, cal_max: 1 });
      const file = decodeURIComponent(href.split("/").pop());
      const volume = await NVImage.loadFromUrl({ url: file, buffer: await bytes(href), name: file, ...options });
      if (kind === "segmentation") volume.setColormapLabel(table(labels));
      this.loaded.set(key, volume);
    }
    const volume = this.loaded.get(key);
    volume.shownName = name;
    return volume;
  }

  /** Put the cross into the lesion once, where its axial section is largest. */
  #centre(view, layers, volumes) {
    const index = layers.findIndex((layer) => layer.kind === "segmentation");
    if (this.centred || index < 0) return;
    this.centred = true;
    const { img, hdr } = volumes[index];
    const [, width, height, depth] = hdr.dims;
    let best = null;
    for (let slice = 0; slice < depth; slice++) {
      let count = 0, across = 0, along = 0;
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          if (img[(slice * height + row) * width + column] > 0) {
            count++;
            across += column;
            along += row;
          }
        }
      }
      if (count && count > (best?.count ?? 0)) best = { count, voxel: [across / count, along / count, slice, 1] };
    }
    if (!best) return;
    const place = hdr.affine.slice(0, 3).map((row) => row.reduce((sum, value, axis) => sum + value * best.voxel[axis], 0));
    view.scene.crosshairPos = view.mm2frac(place, 0, true);
  }

  #place(place) {
    const [x, y, z] = [...place.mm].map((value) => value.toFixed(0));
    const values = place.values.map(({ value }, index) => {
      const layer = this.layers[index];
      if (!layer) return null;
      if (layer.kind !== "segmentation") return text("layers.value", { name: layer.name, value: Number(value).toPrecision(3) });
      const label = Object.keys(layer.labels).find((name) => layer.labels[name] === Math.round(value));
      return label ? layer.labelNames[label] : text("layers.background");
    });
    this.tell([text("layers.place", { x, y, z }), ...values.filter(Boolean)].join(" · "));
  }

  async #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    const turn = this.shown === "render" ? TURNS[event.key] : null;
    const step = STEPS[event.key];
    if (!turn && !step) return;
    event.preventDefault();
    const view = await this.view;
    if (!view?.volumes.length) return;
    if (turn) view.setRenderAzimuthElevation(view.scene.renderAzimuth + turn[0], view.scene.renderElevation + turn[1]);
    else view.moveCrosshairInVox(...step.map((value) => value * (event.shiftKey ? 10 : 1)));
  }
}

function table(labels) {
  const colours = Object.entries(labelColours(labels)).map(([name, colour]) => [labels[name], name, colour]).sort((one, two) => one[0] - two[0]);
  const all = [[0, "", [0, 0, 0]], ...colours];
  return {
    R: all.map(([, , colour]) => colour[0]), G: all.map(([, , colour]) => colour[1]), B: all.map(([, , colour]) => colour[2]),
    A: all.map(([value]) => (value ? 255 : 0)), I: all.map(([value]) => value), labels: all.map(([, name]) => name),
  };
}
