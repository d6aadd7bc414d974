// The map: an equirectangular canvas. Up to MARKS_MOST visible samples are drawn one by one, more as a density.

const MARKS_MOST = 4000;
const CELL_PX = 4; // of the density
const REACH_PX = 26; // of a click
const DRAG_PX = 5;
const ZOOM_STEP = 1.7;
const KM_A_DEGREE = 111.195;

const decodeRings = (rings, steps) =>
  rings.map((flat) => {
    const ring = new Float64Array(flat.length);
    let west = Infinity, east = -Infinity, south = Infinity, north = -Infinity;
    for (let at = 0, x = 0, y = 0; at < flat.length; at += 2) {
      x += flat[at];
      y += flat[at + 1];
      ring[at] = x / steps;
      ring[at + 1] = y / steps;
      west = Math.min(west, ring[at]);
      east = Math.max(east, ring[at]);
      south = Math.min(south, ring[at + 1]);
      north = Math.max(north, ring[at + 1]);
    }
    return { ring, west, east, south, north };
  });

/** store: columns; lines: the outlines part; on: {open(row), box(bounds)}. */
const makeMap = (canvas, store, lines, on) => {
  const world = decodeRings(lines.world, lines.steps), region = decodeRings(lines.region, lines.steps);
  const view = { lon: 0, lat: 0, scale: 1 }; // middle; CSS pixels a degree of latitude
  let drawn = { rows: new Uint32Array(0), current: -1, box: null, rubber: null, words: "" };
  let boxMode = false;

  const squeeze = () => Math.cos((Math.min(75, Math.abs(view.lat)) * Math.PI) / 180);
  const size = () => [canvas.clientWidth || 1, canvas.clientHeight || 1];
  const turned = (lon) => ((((lon - view.lon + 180) % 360) + 360) % 360) - 180;
  const toX = (lon) => size()[0] / 2 + turned(lon) * view.scale * squeeze();
  const toY = (lat) => size()[1] / 2 - (lat - view.lat) * view.scale;
  const toLon = (x) => view.lon + (x - size()[0] / 2) / (view.scale * squeeze());
  const toLat = (y) => view.lat - (y - size()[1] / 2) / view.scale;
  const wrapped = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;
  const clamp = () => {
    const [width, height] = size();
    view.scale = Math.min(60000, Math.max(view.scale, width / (360 * squeeze()), height / 170));
    view.lat = Math.min(84, Math.max(-75, view.lat));
    view.lon = wrapped(view.lon);
  };
  const fit = ([west, south, east, north]) => {
    const [width, height] = size();
    const span = (((east - west) % 360) + 360) % 360 || 360;
    view.lon = wrapped(west + span / 2);
    view.lat = (south + north) / 2;
    view.scale = 0.9 * Math.min(width / (span * squeeze()), height / Math.max(1e-6, north - south)); // room for the buttons
    clamp();
  };

  const drawLines = (context, colours, width, height) => {
    const west = toLon(0), east = toLon(width), south = toLat(height), north = toLat(0);
    const [a, b, c, d] = lines.box;
    const fine = lines.box.length && west >= a && south >= b && east <= c && north <= d;
    context.fillStyle = colours.land;
    context.strokeStyle = colours.coast;
    context.lineWidth = 0.8;
    context.beginPath();
    const mostX = view.scale * squeeze();
    for (const turn of [-360, 0, 360]) {
      for (const shape of fine ? region : world) {
        if (shape.east + turn < west || shape.west + turn > east || shape.north < south || shape.south > north) continue;
        const { ring } = shape;
        for (let at = 0; at < ring.length; at += 2) {
          const x = width / 2 + (ring[at] + turn - view.lon) * mostX, y = toY(ring[at + 1]);
          if (at) context.lineTo(x, y);
          else context.moveTo(x, y);
        }
        context.closePath();
      }
    }
    context.fill("evenodd");
    context.stroke();
  };

  const drawScale = (context, colours, height) => {
    const most = 110 / view.scale * KM_A_DEGREE;
    const power = 10 ** Math.floor(Math.log10(most));
    const km = power * Math.max(...[1, 2, 5].filter((step) => step * power <= most));
    const long = (km / KM_A_DEGREE) * view.scale;
    context.strokeStyle = context.fillStyle = colours.ink;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(12, height - 16);
    context.lineTo(12, height - 11);
    context.lineTo(12 + long, height - 11);
    context.lineTo(12 + long, height - 16);
    context.stroke();
    context.font = "12px system-ui, sans-serif";
    context.fillText(`${km < 1 ? km.toPrecision(1) : km} km`, 16, height - 17);
  };

  /** Rows inside the canvas with their places, in one pass over typed arrays. */
  const placed = (rows, width, height) => {
    const x = new Float32Array(rows.length), y = new Float32Array(rows.length), seen = new Uint32Array(rows.length);
    const scaleX = view.scale * squeeze();
    let count = 0;
    for (let at = 0; at < rows.length; at += 1) {
      const row = rows[at];
      let lon = store.lon[row] - view.lon;
      if (lon > 180) lon -= 360;
      else if (lon < -180) lon += 360;
      const px = width / 2 + lon * scaleX, py = height / 2 - (store.lat[row] - view.lat) * view.scale;
      if (px >= -8 && py >= -8 && px <= width + 8 && py <= height + 8) {
        x[count] = px;
        y[count] = py;
        seen[count] = row;
        count += 1;
      }
    }
    return { x, y, seen, count };
  };

  const drawMarks = (context, colours, { x, y, seen, count }) => {
    const side = Math.max(0, (settings.patch_m / 1000 / KM_A_DEGREE) * view.scale);
    const reach = count > 800 ? 2.6 : 4.4;
    context.lineWidth = 1;
    for (let at = 0; at < count; at += 1) {
      const split = store.split.names[store.split.codes[seen[at]]];
      context.fillStyle = colours[split];
      context.strokeStyle = colours.card;
      if (side > 10) {
        context.globalAlpha = 0.4;
        context.fillRect(x[at] - side / 2, y[at] - side / 2, side, side);
        context.globalAlpha = 1;
      }
      context.beginPath();
      if (split === "val") context.rect(x[at] - reach, y[at] - reach, 2 * reach, 2 * reach);
      else if (split === "test") {
        context.moveTo(x[at], y[at] - 1.3 * reach);
        context.lineTo(x[at] + 1.2 * reach, y[at] + reach);
        context.lineTo(x[at] - 1.2 * reach, y[at] + reach);
        context.closePath();
      } else context.arc(x[at], y[at], reach, 0, 2 * Math.PI);
      context.fill();
      if (count <= 800) context.stroke();
    }
  };

  const drawDensity = (context, colours, { x, y, seen, count }, width, height) => {
    const columns = Math.ceil(width / CELL_PX) + 5, lanes = Math.ceil(height / CELL_PX) + 5;
    const counts = new Uint32Array(columns * lanes * store.split.names.length);
    const splits = store.split.names.length;
    let most = 1;
    for (let at = 0; at < count; at += 1) {
      const cell = (Math.floor(y[at] / CELL_PX) + 2) * columns + Math.floor(x[at] / CELL_PX) + 2;
      most = Math.max(most, (counts[cell * splits + store.split.codes[seen[at]]] += 1));
    }
    for (let cell = 0; cell < columns * lanes; cell += 1) {
      let best = 0, total = 0;
      for (let split = 0; split < splits; split += 1) {
        total += counts[cell * splits + split];
        if (counts[cell * splits + split] > counts[cell * splits + best]) best = split;
      }
      if (!total) continue;
      context.globalAlpha = 0.35 + (0.65 * Math.log(1 + total)) / Math.log(1 + most * 1.5);
      context.fillStyle = colours[store.split.names[best]];
      context.fillRect(((cell % columns) - 2) * CELL_PX, (Math.floor(cell / columns) - 2) * CELL_PX, CELL_PX - 0.5, CELL_PX - 0.5);
    }
    context.globalAlpha = 1;
  };

  const drawFrame = (context, colours, [x0, y0, x1, y1]) => {
    context.strokeStyle = colours.bad;
    context.setLineDash([5, 3]);
    context.lineWidth = 1.8;
    context.strokeRect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
    context.setLineDash([]);
  };

  const draw = () => {
    const colours = schemeColours();
    const { context, width, height } = sizedContext(canvas);
    context.fillStyle = colours.sea;
    context.fillRect(0, 0, width, height);
    drawLines(context, colours, width, height);
    const places = placed(drawn.rows, width, height);
    const single = places.count <= MARKS_MOST;
    if (single) drawMarks(context, colours, places);
    else drawDensity(context, colours, places, width, height);
    drawn.places = places;
    if (drawn.box) drawFrame(context, colours, [toX(drawn.box[0]), toY(drawn.box[3]), toX(drawn.box[2]), toY(drawn.box[1])]);
    if (drawn.rubber) drawFrame(context, colours, drawn.rubber);
    if (drawn.current >= 0) {
      context.strokeStyle = colours.bad;
      context.lineWidth = 3;
      context.beginPath();
      context.arc(toX(store.lon[drawn.current]), toY(store.lat[drawn.current]), 9, 0, 2 * Math.PI);
      context.stroke();
    }
    drawScale(context, colours, height);
    on.drawn(places.count, single);
  };
  const redraw = oncePerFrame(draw);

  const zoom = (by, x = size()[0] / 2, y = size()[1] / 2) => {
    const lon = toLon(x), lat = toLat(y);
    view.scale *= by;
    clamp();
    view.lon = wrapped(view.lon + lon - toLon(x));
    view.lat += lat - toLat(y);
    clamp();
    redraw();
  };
  const move = (dx, dy) => {
    view.lon -= dx / (view.scale * squeeze());
    view.lat += dy / view.scale;
    clamp();
    redraw();
  };
  const nearest = (x, y) => {
    const { places } = drawn;
    let best = -1, reach = REACH_PX;
    for (let at = 0; at < places.count; at += 1) {
      const distance = Math.hypot(places.x[at] - x, places.y[at] - y);
      if (distance < reach) [best, reach] = [places.seen[at], distance];
    }
    return best;
  };
  const boundsOf = ([x0, y0, x1, y1]) => {
    const edges = [toLon(Math.min(x0, x1)), toLat(Math.max(y0, y1)), toLon(Math.max(x0, x1)), toLat(Math.min(y0, y1))];
    return edges.map((edge, side) => Number((side % 2 ? edge : wrapped(edge)).toFixed(4)));
  };

  listenToPointers(canvas, {
    boxMode: () => boxMode,
    move,
    zoom,
    click: (x, y) => {
      const row = nearest(x, y);
      if (row >= 0) on.open(row);
    },
    rubber: (corners, done) => {
      drawn.rubber = done ? null : corners;
      if (done && corners) on.box(boundsOf(corners));
      redraw();
    },
  });
  fit(lines.view);
  return {
    redraw,
    zoom,
    fit,
    all: () => (fit(lines.view), redraw()),
    setBoxMode: (is) => {
      boxMode = is;
      canvas.classList.toggle("box-mode", is);
    },
    show: (changes) => (Object.assign(drawn, changes), redraw()),
    place: (row) => [toX(store.lon[row]), toY(store.lat[row])],
    inView: (row) => {
      const [x, y] = [toX(store.lon[row]), toY(store.lat[row])];
      return x > 0 && y > 0 && x < size()[0] && y < size()[1];
    },
    centre: (row) => {
      view.lon = store.lon[row];
      view.lat = store.lat[row];
      clamp();
      redraw();
    },
  };
};

/** Mouse, pen, fingers, wheel and keys on the map, as moves, zooms, clicks and boxes. */
const listenToPointers = (canvas, act) => {
  const down = new Map();
  let start = null, pinch = 0;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [a, b] = [...down.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, spot(event));
    start = { at: spot(event), box: act.boxMode() || event.shiftKey, moved: false };
    if (down.size === 2) pinch = spread();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId) || !start) return;
    const [x, y] = spot(event), [lastX, lastY] = down.get(event.pointerId);
    down.set(event.pointerId, [x, y]);
    if (down.size === 2) {
      act.zoom(spread() / pinch);
      pinch = spread();
      start.moved = true;
      return;
    }
    if (!start.moved && Math.hypot(x - start.at[0], y - start.at[1]) < DRAG_PX) return;
    start.moved = true;
    if (start.box) act.rubber([...start.at, x, y], false);
    else act.move(x - lastX, y - lastY);
  });
  const release = (event) => {
    if (!down.delete(event.pointerId) || !start || down.size) return;
    const [x, y] = spot(event);
    if (start.box && start.moved) act.rubber(event.type === "pointerup" ? [...start.at, x, y] : null, true);
    else if (!start.moved && event.type === "pointerup") act.click(x, y);
    start = null;
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("wheel", (event) => {
    // the wheel scrolls the page unless the reader means the map: focused by a click or a key, or pinched
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    act.zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 120 : 350)), ...spot(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[event.key]) act.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") act.zoom(ZOOM_STEP);
    else if (event.key === "-") act.zoom(1 / ZOOM_STEP);
    else return;
    event.preventDefault();
  });
};
