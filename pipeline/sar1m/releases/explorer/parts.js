// Data of the page. A page opened from a folder may not fetch its neighbours, so parts come as scripts: each hands its
// value to explorerParts, before or after this script runs. Order of files: SCRIPTS in page.py.

const byId = (id) => document.getElementById(id);
const settings = JSON.parse(byId("settings").textContent);
const ownNonce = document.currentScript.nonce; // scripts without it are refused by the page's policy
const ROW_PARTS_KEPT = 80; // of pictures and rows: some 30 MB at most, so that an hour's browsing stays small
const arrived = new Map();
const awaited = new Map();

const receive = ([name, value]) => {
  arrived.set(name, value);
  const spare = [...arrived.keys()].filter((key) => /^(rows|pictures)-/.test(key));
  if (spare.length > ROW_PARTS_KEPT) arrived.delete(spare[0]);
  const found = awaited.get(name);
  awaited.delete(name);
  if (found) found.resolve(value);
};

const early = self.explorerParts || [];
self.explorerParts = { push: receive };
early.forEach(receive);

/** Promise of a part; rejected with words for the reader where its file is missing. */
const part = (name) => {
  if (arrived.has(name)) return Promise.resolve(arrived.get(name));
  if (awaited.has(name)) return awaited.get(name).promise;
  const wish = {};
  wish.promise = new Promise((resolve, reject) => Object.assign(wish, { resolve, reject }));
  awaited.set(name, wish);
  const script = document.createElement("script");
  script.nonce = ownNonce;
  script.src = `${name}.js`;
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => {
    awaited.delete(name);
    script.remove();
    wish.reject(new Error(`report/${name}.js is missing or unreadable. Check your copy with sar1m verify.`));
  });
  document.head.append(script);
  return wish.promise;
};

/** Name of the part that holds an item of a numbered series. */
const numbered = (series, item, each) => `${series}-${String(Math.floor(item / each)).padStart(3, "0")}`;

const KINDS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array };

/** Typed array of a packed column (encoding.py). */
const unpack = (column) => {
  const text = atob(column.bytes.slice(column.bytes.indexOf(",") + 1));
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return new KINDS[column.kind](bytes.buffer);
};

const make = (tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};

const counted = (number) => number.toLocaleString("en-US");

/** A measured number as people read it: four digits, a dash where there is none. */
const measured = (value) => {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
};

/** Runs work at most once a frame, however often it is asked for. */
const oncePerFrame = (work) => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
};

/** Colours of the scheme in use, by name; read anew when it changes. */
const schemeColours = () => {
  const style = getComputedStyle(document.documentElement);
  const names = ["card", "ink", "soft", "rule", "accent", "sea", "land", "coast", "train", "val", "test", "bad", "alone"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
};

/** A canvas as large as its box in device pixels; its context in CSS pixels. */
const sizedContext = (canvas) => {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
};
