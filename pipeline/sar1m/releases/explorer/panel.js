// The filter panel: a list of boxes for every facet, a histogram with two handles for every metric.

const VALUES_SHOWN = 7; // of a facet before "show all"

/** One facet. report(codes) is called with the chosen codes, an empty list for none. */
const makeFacet = (facet, total, report) => {
  const totals = new Uint32Array(facet.names.length);
  for (let row = 0; row < total; row += 1) totals[facet.codes[row]] += 1;
  const order = facet.names.map((_, code) => code);
  const rank = (code) => (facet.order ? facet.order.indexOf(facet.names[code]) : -totals[code]);
  order.sort((a, b) => rank(a) - rank(b) || (facet.names[a] < facet.names[b] ? -1 : 1));
  const box = make("fieldset", undefined, "facet");
  box.append(make("legend", facet.label));
  const lines = new Map();
  for (const code of order) {
    const label = make("label", undefined, "choice");
    const input = make("input");
    input.type = "checkbox";
    input.dataset.facet = facet.name;
    input.dataset.value = facet.names[code];
    const count = make("span", "", "choice-count");
    const bar = make("span", undefined, "choice-bar");
    label.append(input, make("span", facet.names[code] || "unknown", "choice-name"), count, bar);
    label.hidden = lines.size >= VALUES_SHOWN;
    lines.set(code, { label, input, count, bar });
    box.append(label);
  }
  const chosen = () => order.filter((code) => lines.get(code).input.checked);
  box.addEventListener("change", () => report(chosen()));
  if (order.length > VALUES_SHOWN) {
    const more = make("button", `Show all ${order.length}`, "quiet");
    more.type = "button";
    more.setAttribute("aria-expanded", "false");
    more.addEventListener("click", () => {
      const open = more.getAttribute("aria-expanded") !== "true";
      more.setAttribute("aria-expanded", String(open));
      more.textContent = open ? "Show fewer" : `Show all ${order.length}`;
      order.slice(VALUES_SHOWN).forEach((code) => {
        lines.get(code).label.hidden = !open && !lines.get(code).input.checked;
      });
    });
    box.append(more);
  }
  const refresh = (selection) => {
    const own = selection.failsOf(facet.name);
    const counts = new Uint32Array(facet.names.length);
    const { failing } = selection;
    for (let row = 0; row < total; row += 1) {
      if (failing[row] === 0 || (own && own[row] && failing[row] === 1)) counts[facet.codes[row]] += 1;
    }
    const most = Math.max(1, ...counts);
    for (const [code, line] of lines) {
      line.count.textContent = counted(counts[code]);
      line.bar.style.setProperty("--share", `${(100 * counts[code]) / most}%`);
      line.label.classList.toggle("empty", counts[code] === 0);
    }
  };
  const choose = (names) => {
    for (const [code, line] of lines) {
      line.input.checked = names.includes(facet.names[code]);
      if (line.input.checked) line.label.hidden = false;
    }
    return chosen();
  };
  return { box, refresh, choose };
};

/** One metric. report(low, high): null where open. Handles stand on the histogram's edges; boxes take any number. */
const makeRange = (metric, report) => {
  const box = make("fieldset", undefined, "range");
  box.title = metric.meaning;
  const legend = make("legend");
  legend.append(make("code", metric.name), make("span", metric.unit && metric.unit !== "1" ? ` ${metric.unit}` : ""));
  const canvas = make("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const sliders = make("div", undefined, "sliders");
  const [low, high] = ["at least", "at most"].map((words, end) => {
    const slider = make("input");
    Object.assign(slider, { type: "range", min: 0, max: metric.bins, step: 1, value: end * metric.bins });
    slider.setAttribute("aria-label", `${metric.name} ${words}, by bins`);
    const number = make("input");
    Object.assign(number, { type: "number", step: "any", placeholder: measured(end ? metric.most : metric.least) });
    number.setAttribute("aria-label", `${metric.name} ${words}`);
    number.dataset.metric = metric.name;
    number.dataset.end = end ? "most" : "least";
    sliders.append(slider);
    return { slider, number, end };
  });
  const edge = (bin) => Number((metric.low + (bin / metric.bins) * (metric.high - metric.low)).toPrecision(4));
  const wanted = ({ number }) => (number.value === "" ? null : Number(number.value));
  const place = () => {
    for (const side of [low, high]) {
      const value = wanted(side);
      const bin = value === null ? side.end * metric.bins : ((value - metric.low) / (metric.high - metric.low)) * metric.bins;
      side.slider.value = String(Math.round(Math.min(metric.bins, Math.max(0, bin))));
      side.slider.setAttribute("aria-valuetext", value === null ? "open" : measured(value));
    }
    box.classList.toggle("set", wanted(low) !== null || wanted(high) !== null);
  };
  const announce = () => {
    place();
    report(wanted(low), wanted(high));
  };
  for (const side of [low, high]) {
    side.slider.addEventListener("input", () => {
      const other = side === low ? high : low;
      const bin = Number(side.slider.value);
      const past = side.end ? bin <= Number(other.slider.value) : bin >= Number(other.slider.value);
      if (past) return place();
      side.number.value = bin === side.end * metric.bins ? "" : String(edge(bin));
      return announce();
    });
    side.number.addEventListener("change", announce);
  }
  const boxes = make("div", undefined, "numbers");
  const shown = make("span", "to", "to");
  boxes.append(low.number, shown, high.number);
  const note = make("p", "", "note");
  box.append(legend, canvas, sliders, boxes, note);

  /** Bins of every row, 255 where there is no value; made once. */
  const prepare = () => {
    const bins = new Uint8Array(metric.values.length);
    const scale = metric.bins / (metric.high - metric.low);
    metric.all = new Uint32Array(metric.bins);
    for (let row = 0; row < bins.length; row += 1) {
      const value = metric.values[row];
      const bin = Math.floor((value - metric.low) * scale);
      bins[row] = Number.isNaN(value) ? 255 : Math.min(metric.bins - 1, Math.max(0, bin));
      if (bins[row] !== 255) metric.all[bins[row]] += 1;
    }
    metric.binned = bins;
  };

  const refresh = (selection, colours) => {
    if (!metric.values || !canvas.clientWidth) return;
    if (!metric.binned) prepare();
    const own = selection.failsOf(`metric ${metric.name}`);
    const { failing } = selection;
    const inside = new Uint32Array(metric.bins), beside = new Uint32Array(metric.bins);
    let without = 0;
    for (let row = 0; row < failing.length; row += 1) {
      const bin = metric.binned[row];
      if (failing[row] === 0) {
        if (bin === 255) without += 1;
        else inside[bin] += 1;
      } else if (own && own[row] && failing[row] === 1 && bin !== 255) beside[bin] += 1;
    }
    drawBins(canvas, [metric.all, inside, beside], colours);
    const missing = metric.values.length - metric.known;
    note.textContent = own && missing ? `${counted(missing)} without a value are left out` : without ? `${counted(without)} of these without a value` : "";
  };
  const choose = (least, most) => {
    low.number.value = least === null ? "" : String(least);
    high.number.value = most === null ? "" : String(most);
    place();
  };
  return { box, canvas, refresh, choose };
};

/** Bars on a square-root scale, so that rare values stay visible: all in grey, what is selected in colour, what only this
    metric's own range leaves out in outline. */
const drawBins = (canvas, [all, inside, beside], colours) => {
  const { context, width, height } = sizedContext(canvas);
  const most = Math.sqrt(Math.max(1, ...all));
  const step = width / all.length;
  const tall = (count) => (count ? Math.max(1.5, (Math.sqrt(count) / most) * (height - 1)) : 0);
  for (let bin = 0; bin < all.length; bin += 1) {
    const x = bin * step + 0.5, wide = step - 1;
    for (const [count, colour] of [[all[bin], colours.rule], [inside[bin] + beside[bin], colours.alone], [inside[bin], colours.accent]]) {
      context.fillStyle = colour;
      context.fillRect(x, height - tall(count), wide, tall(count));
    }
  }
};
