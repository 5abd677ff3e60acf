"use strict";
// A map of images on one canvas: dots are blended into a pixel buffer (fast everywhere, no GPU asked),
// pictures, names and rings are drawn on top. Every text of the collection reaches the page by textContent.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const canvas = element("map");
const context = canvas.getContext("2d", { alpha: false });

// ---------------------------------------------------------------- what is on the map

function decoded(base64, Type) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Type(bytes.buffer);
}

const count = data.count;
const coords = decoded(data.coords, Float32Array);
const columns = data.columns.map((column) => {
  if (column.kind === "categories") return { ...column, codes: decoded(column.codes, Int32Array) };
  if (column.kind === "quantity") return { ...column, values: decoded(column.values, Float64Array) };
  return column;
});
const sprites = data.sprites && {
  ...data.sprites,
  index: decoded(data.sprites.index, Int32Array),
  sizes: decoded(data.sprites.sizes, Uint8Array),
  images: new Array(data.sprites.sheets.length).fill(null),
};
const hasPicture = (row) => sprites !== null && sprites.index[row] >= 0;

const bounds = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
for (let row = 0; row < count; row++) {
  bounds.x0 = Math.min(bounds.x0, coords[2 * row]); bounds.x1 = Math.max(bounds.x1, coords[2 * row]);
  bounds.y0 = Math.min(bounds.y0, coords[2 * row + 1]); bounds.y1 = Math.max(bounds.y1, coords[2 * row + 1]);
}
const extent = Math.max(bounds.x1 - bounds.x0, bounds.y1 - bounds.y0) || 1;

// One fixed shuffle: which dot lies on top, and which picture takes a place first.
const order = new Int32Array(count).map((_, row) => row);
for (let i = count - 1, state = 12345; i > 0; i--) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  const j = Math.floor((state / 4294967296) * (i + 1));
  [order[i], order[j]] = [order[j], order[i]];
}

function valueOf(column, row) {
  if (column.kind === "categories") return column.codes[row] < 0 ? "" : column.names[column.codes[row]];
  if (column.kind === "quantity") return Number.isNaN(column.values[row]) ? "" : shortNumber(column.values[row]);
  return column.values[row] ?? "";
}
const shortNumber = (value) => (Number.isInteger(value) ? String(value) : Number(value.toPrecision(5)).toString());

// ---------------------------------------------------------------- what is shown

const view = { x: 0, y: 0, scale: 1, whole: 1 }; // map units in the middle; css pixels a map unit
let width = 1, height = 1, density = 1;
let colored = columns.findIndex((column) => column.name === data.color_by && column.kind !== "text");
let showPictures = sprites !== null, showNames = true;
let off = new Set(); // class codes switched off in the legend
let emphasis = null; // class code under the pointer in the legend
let matches = null; // rows found, or null without a search
let isMatch = null;
let picked = -1, hovered = -1;
let theme = {};
let tints = new Uint32Array(count); // colour of each dot as the buffer stores it
let strong = new Uint8Array(count); // 1: drawn in its colour; 0: faint, behind
let rooms = null; // map units around a row that are free of pictures of higher rank
let drawn = []; // pictures of the last frame: [row, x, y, w, h]

const toScreen = (row) => [
  width / 2 + (coords[2 * row] - view.x) * view.scale,
  height / 2 - (coords[2 * row + 1] - view.y) * view.scale,
];

const VIRIDIS = [[68,1,84],[72,40,120],[62,74,137],[49,104,142],[38,130,142],[31,158,137],[53,183,121],[110,206,88],[181,222,43],[253,231,37]];
function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((low, c) => Math.round(low + (VIRIDIS[i + 1][c] - low) * (at - i)));
}
const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const packed = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const cssOf = (tint) => `rgb(${tint & 255},${(tint >> 8) & 255},${(tint >> 16) & 255})`;

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "ink", "soft", "null", "faint", "accent"]) theme[name] = style.getPropertyValue(`--${name}`).trim();
}

function recolor() {
  const column = columns[colored], missing = packed(rgbOf(theme.null));
  if (!column) tints.fill(packed(rgbOf(theme.accent)));
  else if (column.kind === "categories") {
    const palette = column.colors.map((color) => packed(rgbOf(color)));
    for (let row = 0; row < count; row++) tints[row] = column.codes[row] < 0 ? missing : palette[column.codes[row]];
  } else {
    const span = column.high - column.low || 1;
    for (let row = 0; row < count; row++) {
      const value = column.values[row];
      tints[row] = Number.isNaN(value) ? missing : packed(ramp((value - column.low) / span));
    }
  }
  reselect();
}

function reselect() {
  const column = columns[colored], codes = column && column.kind === "categories" ? column.codes : null;
  for (let row = 0; row < count; row++) {
    const code = codes ? codes[row] : null;
    strong[row] = (codes && off.has(code)) || (emphasis !== null && code !== emphasis) || (isMatch && !isMatch[row]) ? 0 : 1;
  }
  if (emphasis === null) scheduleRooms();
  redraw();
}

// ---------------------------------------------------------------- rows near a place

const near = (() => { // rows sorted into square cells of the map
  const side = Math.max(1, Math.ceil(Math.sqrt(count / 4))), cell = extent / side || 1;
  const cellOf = (x, low) => Math.min(side, Math.max(0, Math.floor((x - low) / cell)));
  const wide = side + 1, starts = new Int32Array(wide * wide + 1), rows = new Int32Array(count);
  const keys = new Int32Array(count);
  for (let row = 0; row < count; row++) {
    keys[row] = cellOf(coords[2 * row + 1], bounds.y0) * wide + cellOf(coords[2 * row], bounds.x0);
    starts[keys[row] + 1]++;
  }
  for (let key = 0; key < wide * wide; key++) starts[key + 1] += starts[key];
  const next = starts.slice();
  for (let row = 0; row < count; row++) rows[next[keys[row]]++] = row;
  return (x, y, reach, wanted) => {
    let best = -1, least = reach * reach;
    const x1 = cellOf(x + reach, bounds.x0), y1 = cellOf(y + reach, bounds.y0);
    for (let j = cellOf(y - reach, bounds.y0); j <= y1; j++) for (let i = cellOf(x - reach, bounds.x0); i <= x1; i++) {
      for (let at = starts[j * wide + i]; at < starts[j * wide + i + 1]; at++) {
        const row = rows[at], dx = coords[2 * row] - x, dy = coords[2 * row + 1] - y, square = dx * dx + dy * dy;
        if (square <= least && wanted(row)) { least = square; best = row; }
      }
    }
    return best;
  };
})();

function rowAt(px, py) {
  for (let i = drawn.length - 1; i >= 0; i--) {
    const [row, x, y, w, h] = drawn[i];
    if (px >= x && px <= x + w && py >= y && py <= y + h) return row;
  }
  const x = view.x + (px - width / 2) / view.scale, y = view.y - (py - height / 2) / view.scale;
  return near(x, y, 12 / view.scale, (row) => strong[row]);
}

// Ranks for pictures: a row's room is the largest step of a ladder of sizes at which a square of that size around it
// is free of all rows taken at larger or the same size. Rows with room for the size now drawn never overlap, and as
// one zooms in pictures only ever appear.
let roomsTimer = 0;
function scheduleRooms() {
  clearTimeout(roomsTimer);
  if (sprites) roomsTimer = setTimeout(() => { rooms = findRooms(); redraw(); }, rooms ? 60 : 0);
}
function findRooms() {
  const found = new Float32Array(count), taken = [];
  let waiting = Array.from(order).filter((row) => strong[row] && hasPicture(row));
  const slots = 1 << Math.ceil(Math.log2(4 * count + 16)), heads = new Int32Array(slots), next = new Int32Array(count);
  const slotOf = (i, j) => (Math.imul(i, 73856093) ^ Math.imul(j, 19349663)) & (slots - 1);
  for (let size = extent / 2; size > extent / 65536 && waiting.length; size /= Math.SQRT2) {
    heads.fill(-1);
    const put = (row) => {
      const slot = slotOf(Math.floor(coords[2 * row] / size), Math.floor(coords[2 * row + 1] / size));
      next[row] = heads[slot]; heads[slot] = row;
    };
    taken.forEach(put);
    waiting = waiting.filter((row) => {
      const x = coords[2 * row], y = coords[2 * row + 1], i = Math.floor(x / size), j = Math.floor(y / size);
      for (let dj = -1; dj <= 1; dj++) for (let di = -1; di <= 1; di++) {
        for (let other = heads[slotOf(i + di, j + dj)]; other >= 0; other = next[other]) {
          if (Math.max(Math.abs(coords[2 * other] - x), Math.abs(coords[2 * other + 1] - y)) < size) return true;
        }
      }
      found[row] = size; taken.push(row); put(row);
      return false;
    });
  }
  return found;
}

// ---------------------------------------------------------------- drawing

let buffer = null, pixels = null, frame = 0;
function redraw() { if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); }); }

function resize() {
  density = Math.min(window.devicePixelRatio || 1, 2);
  width = canvas.clientWidth; height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * density)); canvas.height = Math.max(1, Math.round(height * density));
  buffer = context.createImageData(canvas.width, canvas.height);
  pixels = new Uint32Array(buffer.data.buffer);
  const before = view.whole, right = element("legend").hidden || width < 760 ? 0 : 250;
  view.whole = 0.94 * Math.min((width - right) / (bounds.x1 - bounds.x0 || extent), height / (bounds.y1 - bounds.y0 || extent));
  view.scale *= view.whole / before;
  redraw();
}

function showWhole() {
  const right = element("legend").hidden || width < 760 ? 0 : 250;
  view.scale = view.whole;
  view.x = (bounds.x0 + bounds.x1) / 2 + right / 2 / view.scale;
  view.y = (bounds.y0 + bounds.y1) / 2;
  redraw();
}

function disc(radius) { // coverage of a dot, 0..256, on a square of odd side
  const half = Math.ceil(radius), side = 2 * half + 1, mask = new Uint16Array(side * side);
  for (let y = -half; y <= half; y++) for (let x = -half; x <= half; x++) {
    mask[(y + half) * side + x + half] = Math.round(256 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y))));
  }
  return { half, side, mask };
}

function splat({ half, side, mask }, px, py, tint, alpha) {
  const w = canvas.width, h = canvas.height;
  const x0 = Math.max(0, px - half), x1 = Math.min(w - 1, px + half), y0 = Math.max(0, py - half), y1 = Math.min(h - 1, py + half);
  const rb = tint & 0xff00ff, g = tint & 0x00ff00;
  for (let y = y0; y <= y1; y++) for (let x = x0; x <= x1; x++) {
    const a = (mask[(y - py + half) * side + x - px + half] * alpha) >> 8;
    if (a === 0) continue;
    const at = y * w + x, under = pixels[at], b = 256 - a;
    pixels[at] = (0xff000000 | (((((under & 0xff00ff) * b + rb * a) / 256) & 0xff00ff) | ((((under & 0x00ff00) * b + g * a) / 256) & 0x00ff00))) >>> 0;
  }
}

function draw() {
  pixels.fill(packed(rgbOf(theme.paper)));
  const zoom = view.scale / view.whole;
  const radius = Math.min(6, Math.max(1, Math.sqrt((width * height * 0.05) / count)) * zoom ** 0.3) * density;
  const dot = disc(Math.min(radius, 7 * density)), faint = packed(rgbOf(theme.faint));
  const alpha = Math.min(256, Math.max(120, 90 + 60 * radius));
  let visible = 0;
  for (const pass of [0, 1]) for (let i = 0; i < count; i++) {
    const row = order[i];
    if (strong[row] !== pass) continue;
    const px = Math.round((width / 2 + (coords[2 * row] - view.x) * view.scale) * density);
    const py = Math.round((height / 2 - (coords[2 * row + 1] - view.y) * view.scale) * density);
    if (px < -dot.half || py < -dot.half || px > canvas.width + dot.half || py > canvas.height + dot.half) continue;
    visible += pass;
    splat(dot, px, py, pass ? tints[row] : faint, pass ? alpha : 256);
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.putImageData(buffer, 0, 0);
  context.setTransform(density, 0, 0, density, 0, 0);
  drawPictures(zoom, visible);
  if (showNames) drawNames();
  if (!visible) {
    context.font = "14px system-ui, 'DejaVu Sans', sans-serif";
    context.textAlign = "center"; context.textBaseline = "middle"; context.fillStyle = theme.soft;
    context.fillText("No image here that is switched on. Press 0 for the whole map.", width / 2, height / 2);
  }
  for (const [row, ring] of [[hovered, 2], [picked, 3]]) if (row >= 0) drawRing(row, ring, radius / density);
  placeCard();
}

function sheet(number) {
  let image = sprites.images[number];
  if (!image) {
    image = sprites.images[number] = new Image();
    image.onload = redraw;
    image.src = sprites.sheets[number];
  }
  return image.complete && image.naturalWidth ? image : null;
}

function drawSprite(target, row, x, y, side) { // the picture of a row, its shape kept, in the middle of a square
  const place = sprites.index[row], each = sprites.columns * sprites.columns, image = sheet(Math.floor(place / each));
  const w = sprites.sizes[2 * row], h = sprites.sizes[2 * row + 1], scale = side / Math.max(w, h);
  const box = [x + (side - w * scale) / 2, y + (side - h * scale) / 2, w * scale, h * scale];
  if (image) {
    const sx = (place % sprites.columns) * sprites.tile, sy = Math.floor((place % each) / sprites.columns) * sprites.tile;
    target.imageSmoothingQuality = "high";
    target.drawImage(image, sx, sy, w, h, ...box);
  }
  return image ? box : null;
}

function drawPictures(zoom, visible) {
  drawn = [];
  const side = Math.min(112, 38 * zoom ** 0.3), step = side * 1.1;
  const slots = (width * height) / (step * step);
  if (!sprites || !showPictures || !rooms || visible > 6 * slots) return;
  for (let i = 0; i < count; i++) {
    const row = order[i];
    if (!strong[row] || rooms[row] * view.scale < step) continue;
    const [x, y] = toScreen(row);
    if (x < -side || y < -side || x > width + side || y > height + side) continue;
    const box = drawSprite(context, row, x - side / 2, y - side / 2, side);
    if (!box) continue;
    context.lineWidth = 2;
    context.strokeStyle = cssOf(tints[row]);
    context.strokeRect(...box);
    drawn.push([row, ...box]);
  }
}

function drawNames() {
  const column = columns[colored];
  if (!column || column.kind !== "categories" || !column.modes) return;
  context.font = "600 13px system-ui, 'DejaVu Sans', sans-serif";
  context.textAlign = "center"; context.textBaseline = "middle"; context.lineJoin = "round";
  const boxes = [];
  for (const code of column.by_size) {
    if (off.has(code)) continue;
    const x = width / 2 + (column.modes[code][0] - view.x) * view.scale, y = height / 2 - (column.modes[code][1] - view.y) * view.scale;
    const name = column.names[code].length > 28 ? column.names[code].slice(0, 27) + "…" : column.names[code];
    const half = context.measureText(name).width / 2 + 4;
    if (x < -half || y < -10 || x > width + half || y > height + 10) continue;
    if (boxes.some(([bx, by, bh]) => Math.abs(bx - x) < bh + half && Math.abs(by - y) < 18)) continue;
    boxes.push([x, y, half]);
    context.lineWidth = 4; context.strokeStyle = theme.paper; context.strokeText(name, x, y);
    context.fillStyle = theme.ink; context.fillText(name, x, y);
  }
}

function drawRing(row, line, radius) {
  const picture = drawn.find(([other]) => other === row), [x, y] = toScreen(row);
  for (const [color, extra] of [[theme.paper, 3], [theme.ink, 0]]) {
    context.lineWidth = line + extra; context.strokeStyle = color;
    context.beginPath();
    if (picture) context.rect(picture[1] - 2, picture[2] - 2, picture[3] + 4, picture[4] + 4);
    else context.arc(x, y, radius + 4, 0, 2 * Math.PI);
    context.stroke();
  }
}

// ---------------------------------------------------------------- the card of one image

function showCard() {
  const row = picked >= 0 ? picked : hovered, card = element("card");
  card.hidden = row < 0;
  card.classList.toggle("kept", picked >= 0);
  if (row < 0) return;
  card.dataset.row = row;
  element("name").textContent = data.names ? data.names[row] : `image ${row}`;
  const values = element("values");
  values.replaceChildren();
  for (const column of columns) {
    const value = valueOf(column, row);
    if (value === "") continue;
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = column.name; text.textContent = value;
    values.append(term, text);
  }
  const picture = element("picture");
  picture.hidden = !hasPicture(row);
  if (hasPicture(row)) {
    const w = sprites.sizes[2 * row], h = sprites.sizes[2 * row + 1], scale = Math.min(192 / Math.max(w, h), 4);
    picture.style.width = `${w * scale}px`; picture.style.height = `${h * scale}px`;
    picture.width = Math.round(w * scale * density); picture.height = Math.round(h * scale * density);
    const side = Math.max(picture.width, picture.height);
    const done = drawSprite(picture.getContext("2d"), row, (picture.width - side) / 2, (picture.height - side) / 2, side);
    if (!done) setTimeout(() => { if (card.dataset.row === String(row)) showCard(); }, 50); // its sheet is being decoded
  }
  placeCard();
}

function placeCard() {
  const card = element("card");
  if (card.hidden) return;
  const [x, y] = toScreen(picked >= 0 ? picked : hovered), w = card.offsetWidth, h = card.offsetHeight;
  const gap = 26 + (drawn.length ? drawn[0][3] / 2 : 0), left = x + gap + w < width - 8 ? x + gap : x - gap - w;
  const at = [Math.min(Math.max(8, left), width - w - 8), Math.min(Math.max(8, y - h / 2), height - h - 8)];
  card.style.transform = `translate(${Math.round(at[0])}px, ${Math.round(at[1])}px)`;
}

function hover(row) {
  if (row === hovered) return;
  hovered = row;
  canvas.classList.toggle("over", row >= 0);
  if (picked < 0) showCard();
  redraw();
}

function pick(row, move = false) {
  picked = row;
  if (row >= 0 && move) { view.x = coords[2 * row]; view.y = coords[2 * row + 1]; }
  showCard();
  if (row >= 0) element("spoken").textContent = [element("name").textContent, ...[...element("values").children].map((e) => e.textContent)].join(", ");
  redraw();
}

// ---------------------------------------------------------------- legend, search

function buildLegend() {
  const legend = element("legend"), column = columns[colored];
  legend.hidden = !column;
  legend.replaceChildren();
  if (!column) return;
  const add = (tag, text, parent = legend, className = "") => {
    const made = document.createElement(tag);
    made.textContent = text; made.className = className; parent.append(made);
    return made;
  };
  add("h2", column.name);
  if (column.kind === "quantity") {
    const bar = add("canvas", "");
    bar.width = 200; bar.height = 1;
    const paint = bar.getContext("2d");
    for (let x = 0; x < 200; x++) { paint.fillStyle = `rgb(${ramp(x / 199)})`; paint.fillRect(x, 0, 1, 1); }
    const ends = add("div", "", legend, "ends");
    add("span", shortNumber(column.low), ends); add("span", shortNumber(column.high), ends);
    add("p", "from the 1st to the 99th percentile");
    if (column.missing) add("p", `grey: no value (${column.missing.toLocaleString("en")})`);
    return;
  }
  const all = add("div", "", legend, "all");
  add("button", "All", all).onclick = () => { off = new Set(); mark(); };
  add("button", "None", all).onclick = () => { off = new Set([-1, ...column.names.keys()]); mark(); };
  const entries = column.names.map((name, code) => [name, code, column.colors[code], column.counts[code]]);
  if (column.missing) entries.push(["no value", -1, theme.null, column.missing]);
  const buttons = entries.map(([name, code, color, rows]) => {
    const button = add("button", "", legend, "class");
    button.type = "button"; button.title = `${name}\nclick: on or off; double click: this one alone`;
    add("i", "", button).style.background = color;
    add("span", name, button); add("b", rows.toLocaleString("en"), button);
    button.onclick = () => { off.has(code) ? off.delete(code) : off.add(code); mark(); };
    button.ondblclick = () => { off = new Set(entries.map((entry) => entry[1]).filter((other) => other !== code)); mark(); };
    button.onpointerenter = () => { if (!off.has(code)) { emphasis = code; reselect(); } };
    button.onpointerleave = () => { if (emphasis !== null) { emphasis = null; reselect(); } };
    return [button, code];
  });
  const mark = () => {
    emphasis = null;
    for (const [button, code] of buttons) button.setAttribute("aria-pressed", String(!off.has(code)));
    reselect();
  };
  mark();
}

function colorBy(index) {
  colored = index; off = new Set(); emphasis = null;
  element("column").value = String(index);
  buildLegend();
  recolor();
}

let haystacks = null;
function search(text) {
  const needle = text.trim().toLowerCase();
  if (!needle) { matches = isMatch = null; element("found").textContent = ""; return reselect(); }
  haystacks ??= Array.from({ length: count }, (_, row) =>
    [data.names ? data.names[row] : "", ...columns.filter((c) => c.kind !== "quantity").map((c) => valueOf(c, row))].join("\n").toLowerCase());
  isMatch = new Uint8Array(count); matches = [];
  haystacks.forEach((hay, row) => { if (hay.includes(needle)) { isMatch[row] = 1; matches.push(row); } });
  element("found").textContent = matches.length === 1 ? "1 match" : `${matches.length.toLocaleString("en")} matches`;
  reselect();
}

function step(by) {
  if (!matches || !matches.length) return;
  const at = matches.indexOf(picked);
  pick(matches[at < 0 ? 0 : (at + by + matches.length) % matches.length], true);
}

// ---------------------------------------------------------------- pointer, wheel, keys

function zoomAt(px, py, factor) {
  const scale = Math.min(Math.max(view.scale * factor, view.whole / 2), view.whole * 4096);
  view.x += (px - width / 2) * (1 / view.scale - 1 / scale);
  view.y -= (py - height / 2) * (1 / view.scale - 1 / scale);
  view.scale = scale;
  redraw();
}

const pointers = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), now = [event.offsetX, event.offsetY];
  if (!before) return hover(rowAt(...now));
  const other = [...pointers].find(([id]) => id !== event.pointerId);
  if (other) { // two fingers: zoom about the one that rests
    const [ox, oy] = other[1];
    zoomAt(ox, oy, Math.hypot(now[0] - ox, now[1] - oy) / Math.max(1, Math.hypot(before[0] - ox, before[1] - oy)));
  } else {
    view.x -= (now[0] - before[0]) / view.scale; view.y += (now[1] - before[1]) / view.scale;
  }
  moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
  pointers.set(event.pointerId, now);
  canvas.classList.toggle("dragging", moved > 4);
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
  pointers.delete(event.pointerId);
  canvas.classList.remove("dragging");
  if (end === "pointerup" && moved <= 4) { pick(rowAt(event.offsetX, event.offsetY)); }
  remember();
});
canvas.addEventListener("pointerleave", () => { if (!pointers.size) hover(-1); });
canvas.addEventListener("dblclick", (event) => { pick(-1); zoomAt(event.offsetX, event.offsetY, 2); remember(); });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 30 : 1;
  zoomAt(event.offsetX, event.offsetY, Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * 0.0022));
  remember();
}, { passive: false });

const middle = (factor) => () => { zoomAt(width / 2, height / 2, factor); remember(); };
const shift = (dx, dy) => () => { view.x += (dx * width) / 8 / view.scale; view.y += (dy * height) / 8 / view.scale; redraw(); remember(); };
const keys = {
  "+": middle(1.4), "=": middle(1.4), "-": middle(1 / 1.4), "0": () => { showWhole(); remember(); },
  ArrowLeft: shift(-1, 0), ArrowRight: shift(1, 0), ArrowUp: shift(0, 1), ArrowDown: shift(0, -1),
  "/": () => element("search").focus(), n: () => step(1), p: () => step(-1), Escape: () => pick(-1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === element("search")) {
    if (event.key === "Enter") { step(event.shiftKey ? -1 : 1); canvas.focus(); }
    if (event.key === "Escape") { event.target.value = ""; search(""); canvas.focus(); }
    return;
  }
  if (event.target.tagName === "SELECT") return;
  if (event.key === "Enter" && event.target === canvas) return pick(near(view.x, view.y, extent, (row) => strong[row]));
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

// ---------------------------------------------------------------- controls and the address

const toggle = (id, change) => {
  element(id).onclick = (event) => {
    const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
    event.currentTarget.setAttribute("aria-pressed", String(on));
    change(on); redraw();
  };
};
toggle("pictures", (on) => { showPictures = on; });
toggle("names", (on) => { showNames = on; });
element("pictures").hidden = sprites === null;
element("closer").onclick = keys["+"];
element("farther").onclick = keys["-"];
element("whole").onclick = keys["0"];
element("close").onclick = () => { pick(-1); canvas.focus(); };
let typing = 0;
element("search").addEventListener("input", (event) => { clearTimeout(typing); typing = setTimeout(() => search(event.target.value), 90); });
const chooser = element("column");
for (const [index, name] of [[-1, "(one colour)"], ...columns.map((c, i) => [i, c.kind === "text" ? null : c.name])]) {
  if (name !== null) chooser.add(new Option(name, String(index)));
}
chooser.onchange = () => { colorBy(Number(chooser.value)); remember(); };
element("summary").textContent = `${count.toLocaleString("en")} images`;

// The address keeps the view, so that a link shows the same place: #view=x,y,zoom&color=column&pick=row&find=text
let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const parts = new URLSearchParams({ view: [view.x, view.y, view.scale / view.whole].map((v) => v.toPrecision(7)).join(",") });
    if (colored >= 0) parts.set("color", columns[colored].name);
    if (picked >= 0) parts.set("pick", picked);
    history.replaceState(null, "", `#${parts}`);
  }, 300);
}
function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const wanted = columns.findIndex((column) => column.name === parts.get("color") && column.kind !== "text");
  if (wanted >= 0) colorBy(wanted);
  const [x, y, zoom] = (parts.get("view") || "").split(",").map(Number);
  if (zoom > 0 && Number.isFinite(x + y + zoom)) { view.x = x; view.y = y; view.scale = view.whole * zoom; }
  if (parts.get("find")) { element("search").value = parts.get("find"); search(parts.get("find")); }
  const row = Number(parts.get("pick") ?? -1);
  if (Number.isInteger(row) && row >= 0 && row < count) pick(row, !(zoom > 0));
}

readTheme();
colorBy(colored);
resize();
showWhole();
recall();
new ResizeObserver(resize).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readTheme(); buildLegend(); recolor(); });
document.body.dataset.ready = String(count);
