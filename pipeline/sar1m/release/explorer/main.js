// Ties the parts together. The address after # holds filters, order and the chosen sample, so that a view can be sent.

const TYPING_MS = 120;
const FIRST_LOOK = 200; // rows

const makeStore = (core) => {
  const facets = core.facets.map((facet) => ({ ...facet, codes: unpack(facet.codes) }));
  const byName = new Map(facets.map((facet) => [facet.name, facet]));
  const split = byName.get("split");
  split.order = core.splits;
  return {
    ...core,
    ...Object.fromEntries(["index", "lon", "lat", "pictured"].map((name) => [name, unpack(core[name])])),
    facets,
    split,
    products: Object.values(core.products).map(({ names, codes }) => ({ names, codes: unpack(codes) })),
    dates: { names: core.dates.names, codes: unpack(core.dates.codes) },
    metrics: core.metrics.map((metric, number) => ({ ...metric, number, values: null })),
    text: (name, row) => byName.get(name).names[byName.get(name).codes[row]],
  };
};

const start = (core, lines) => {
  const store = makeStore(core);
  const selection = makeSelection(store.count);
  const ordered = makeOrders(store);
  const state = new URLSearchParams();
  let current = -1, box = null;
  let colours = schemeColours();

  const pictureOf = (row) => {
    const number = store.pictured[row];
    const each = settings.part_pictures;
    return part(numbered("pictures", number, each)).then((pairs) => pairs[number % each]);
  };
  const measuredOnes = store.metrics.filter((metric) => metric.known);
  const metricValues = async (metric) => {
    if (metric.values) return metric.values;
    const columns = await part(numbered("metrics", measuredOnes.indexOf(metric), store.part_metrics));
    if (!metric.values) metric.values = unpack(columns[metric.name]);
    delete columns[metric.name]; // its text is a third larger than its numbers
    return metric.values;
  };

  const remember = (key, value) => {
    if (value === null || value === "" || value.length === 0) state.delete(key);
    else state.set(key, value);
  };
  let written = "";
  const writeAddress = () => {
    written = state.toString();
    // Safari allows 100 changes in 30 s; a frame's worth is enough
    history.replaceState(null, "", written ? `#${written}` : "#explore");
  };

  const open = (row, { follow = true } = {}) => {
    current = row;
    state.set("sample", store.ids[row]);
    viewer.show(row);
    list.setCurrent(row);
    if (follow && !map.inView(row)) map.centre(row);
    map.show({ current: row });
    tellPosition();
    writeAddress();
  };

  /** Where the viewer stands under the list, a click must show that something happened. */
  const bringViewer = () => {
    if (innerWidth > 1180) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    byId("viewer").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  };

  const map = makeMap(byId("map"), store, lines, {
    open: (row) => {
      open(row, { follow: false });
      bringViewer();
    },
    box: (bounds) => {
      setBox(bounds);
      setBoxMode(false);
      changed();
    },
    drawn: (count, single) => {
      byId("map-words").textContent = `${counted(count)} in sight${single ? "" : ", as a density: zoom in for single samples"}. Drag to move, click to open, shift and drag to select a box.`;
    },
  });
  const list = makeList(byId("list"), store, pictureOf, {
    open: (row, clicked) => {
      open(row);
      if (clicked) bringViewer();
    },
  });
  const viewer = makeViewer(store, pictureOf);

  const tellPosition = () => {
    const place = list.placeOf(current);
    byId("position").textContent = place < 0 ? "not in this selection" : `${counted(place + 1)} of ${counted(list.size())}`;
  };
  const step = (by) => {
    if (!list.size()) return;
    const place = list.placeOf(current);
    open(list.at(place < 0 ? 0 : (place + by + list.size()) % list.size()));
  };

  const facets = store.facets.filter((facet) => facet.names.length > 1).map((facet) => {
    const apply = (codes) => {
      selection.set(facet.name, codes.length ? facetTest(facet.codes, codes) : null);
      remember(facet.name, codes.length ? JSON.stringify(codes.map((code) => facet.names[code])) : null);
    };
    const control = makeFacet(facet, store.count, (codes) => (apply(codes), changed()));
    return { name: facet.name, label: facet.label, control, apply };
  });
  byId("facets").append(...facets.map(({ control }) => control.box));

  const ranges = measuredOnes.map((metric) => {
    const name = `metric ${metric.name}`;
    const apply = (low, high) => {
      const is = low !== null || high !== null;
      selection.set(name, is ? rangeTest(metric.values, low, high) : null);
      remember(metric.name, is ? `${low ?? ""}..${high ?? ""}` : null);
    };
    const control = makeRange(metric, (low, high) => {
      metricValues(metric).then(() => {
        apply(low, high);
        changed();
      }, fail);
    });
    return { name, label: metric.name, metric, control, apply };
  });
  const firsts = ranges.filter(({ metric }) => FIRST_METRICS.includes(metric.name));
  firsts.sort((a, b) => FIRST_METRICS.indexOf(a.metric.name) - FIRST_METRICS.indexOf(b.metric.name));
  const rest = make("details");
  const others = ranges.filter((range) => !firsts.includes(range));
  rest.append(make("summary", `${others.length} more metrics`), ...others.map(({ control }) => control.box));
  byId("ranges").append(...firsts.map(({ control }) => control.box), ...(others.length ? [rest] : []));
  const none = store.metrics.filter((metric) => !metric.known).map((metric) => metric.name);
  const alike = store.facets.filter((facet) => facet.names.length === 1 && facet.names[0]);
  byId("unmeasured").textContent = [
    alike.length ? `The same for all: ${alike.map((facet) => `${facet.label.toLowerCase()} ${facet.names[0]}`).join("; ")}.` : "",
    none.length ? `Not measured in this release: ${none.join(", ")}.` : "",
  ].join(" ");

  const setBox = (bounds) => {
    box = bounds;
    selection.set("box", bounds ? boxTest(store.lon, store.lat, bounds) : null);
    remember("box", bounds ? bounds.join(",") : null);
    map.show({ box });
  };
  const setBoxMode = (is) => {
    byId("box-mode").setAttribute("aria-pressed", String(is));
    map.setBoxMode(is);
  };
  const setText = (text) => {
    selection.set("search", text ? textTest(store, text) : null);
    remember("search", text || null);
  };

  const refreshPanel = () => {
    for (const { control } of facets) control.refresh(selection);
    for (const { control } of ranges) control.refresh(selection, colours);
  };
  const refreshPanelSoon = oncePerFrame(refreshPanel);

  const clearOne = (name) => {
    const facet = facets.find((one) => one.name === name), range = ranges.find((one) => one.name === name);
    if (facet) facet.apply(facet.control.choose([]));
    if (range) {
      range.control.choose(null, null);
      range.apply(null, null);
    }
    if (name === "box") setBox(null);
    if (name === "search") {
      byId("search").value = "";
      setText("");
    }
  };
  const clearAll = () => {
    selection.names().forEach(clearOne);
    changed();
  };
  const labels = new Map([...facets, ...ranges].map(({ name, label }) => [name, label]));
  labels.set("box", "Box on the map").set("search", "Search");
  const tellActive = () => {
    const names = selection.names();
    byId("active-count").textContent = names.length ? `${names.length} set` : "";
    const chips = names.map((name) => {
      const chip = make("button", `${labels.get(name)} ×`, "chip");
      chip.type = "button";
      chip.setAttribute("aria-label", `Clear ${labels.get(name)}`);
      chip.addEventListener("click", () => (clearOne(name), changed()));
      return chip;
    });
    if (names.length > 1) {
      const all = make("button", "Clear all", "chip");
      all.type = "button";
      all.addEventListener("click", clearAll);
      chips.push(all);
    }
    byId("active").replaceChildren(...chips);
  };

  /** A pair with pictures among the first of the list says more than a sample without. */
  const firstToShow = () => {
    for (let place = 0; place < Math.min(FIRST_LOOK, list.size()); place += 1) {
      const row = list.at(place);
      if (store.pictured[row] >= 0 && store.text("partner", row) === store.paired_words) return row;
    }
    return list.at(0);
  };

  /** After any change of filters or order: list and map in this frame, the panel's counts in the next. */
  const changed = () => {
    const rows = selection.rows();
    const metric = store.metrics.find((one) => one.name === byId("sort").value && one.values) || null;
    const largest = byId("direction").getAttribute("aria-pressed") === "true";
    list.setRows(metric ? ordered(selection.failing, rows.length, metric.number, largest) : rows, metric);
    byId("shown-count").textContent = counted(rows.length);
    byId("held-count").textContent = `of ${counted(store.count)} samples`;
    byId("none-left").hidden = rows.length > 0;
    byId("list").hidden = rows.length === 0;
    map.show({ rows });
    tellActive();
    if (list.placeOf(current) < 0 && rows.length) open(firstToShow(), { follow: false });
    else if (rows.length) list.setCurrent(current);
    tellPosition();
    writeAddress();
    refreshPanelSoon();
  };

  const readAddress = async () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const { name, control, apply } of facets) {
      let names = [];
      try {
        names = JSON.parse(wanted.get(name) || "[]");
      } catch {
        // an address cut short: as if the filter were not in it
      }
      apply(control.choose(Array.isArray(names) ? names : []));
    }
    for (const { metric, control, apply } of ranges) {
      const [low, high] = (wanted.get(metric.name) || "..").split("..").map((text) => (text === "" || !Number.isFinite(Number(text)) ? null : Number(text)));
      if (low !== null || (high ?? null) !== null) await metricValues(metric);
      control.choose(low, high ?? null);
      apply(low, high ?? null);
    }
    const edges = (wanted.get("box") || "").split(",").map(Number);
    setBox(edges.length === 4 && edges.every(Number.isFinite) ? edges : null);
    byId("search").value = wanted.get("search") || "";
    setText(byId("search").value);
    const metric = ranges.find((one) => one.metric.name === wanted.get("order"))?.metric;
    if (metric) await metricValues(metric);
    byId("sort").value = metric ? metric.name : "";
    remember("order", metric ? metric.name : null);
    setDirection(wanted.get("direction") === "down");
    const asked = store.ids.indexOf(wanted.get("sample") ?? "");
    changed();
    if (asked >= 0) open(asked);
  };
  const setDirection = (down) => {
    const button = byId("direction");
    button.setAttribute("aria-pressed", String(down));
    button.textContent = down ? "↓" : "↑";
    button.setAttribute("aria-label", down ? "Largest first; press for smallest first" : "Smallest first; press for largest first");
    button.disabled = byId("sort").value === "";
    remember("direction", down ? "down" : null);
  };
  const fail = (error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  };

  for (const { metric } of ranges) byId("sort").append(new Option(metric.name, metric.name));
  byId("sort").addEventListener("change", async () => {
    const metric = store.metrics.find((one) => one.name === byId("sort").value);
    if (metric) await metricValues(metric).catch(fail);
    remember("order", byId("sort").value);
    setDirection(byId("direction").getAttribute("aria-pressed") === "true");
    changed();
  });
  byId("direction").addEventListener("click", () => {
    setDirection(byId("direction").getAttribute("aria-pressed") !== "true");
    changed();
  });
  let typing = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => (setText(byId("search").value.trim()), changed()), TYPING_MS);
  });
  byId("clear-none").addEventListener("click", clearAll);
  byId("zoom-in").addEventListener("click", () => map.zoom(ZOOM_STEP));
  byId("zoom-out").addEventListener("click", () => map.zoom(1 / ZOOM_STEP));
  byId("zoom-all").addEventListener("click", map.all);
  byId("box-mode").addEventListener("click", () => setBoxMode(byId("box-mode").getAttribute("aria-pressed") !== "true"));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  const copy = (button, text) => {
    navigator.clipboard?.writeText(text()).then(() => {
      const words = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = words), 1200);
    }, () => {});
  };
  byId("copy-code").addEventListener("click", (event) => copy(event.target, () => byId("code-line").textContent));
  byId("copy-link").addEventListener("click", (event) => copy(event.target, () => location.href));
  byId("explore").addEventListener("keydown", (event) => {
    const typed = event.target.tagName === "SELECT" || (event.target.tagName === "INPUT" && event.target.type !== "range" && event.target.type !== "checkbox");
    if (typed || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n" || event.key === "N") step(1);
    else if (event.key === "p" || event.key === "P") step(-1);
    else if (event.key === "/") byId("search").focus();
    else return;
    event.preventDefault();
  });
  addEventListener("hashchange", () => {
    const here = location.hash.slice(1);
    if (here !== written && here.includes("=")) readAddress().catch(fail);
  });
  const repaint = () => {
    colours = schemeColours();
    map.redraw();
    refreshPanelSoon();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new ResizeObserver(repaint).observe(byId("map"));
  for (const box of [rest, byId("filters")]) box.addEventListener("toggle", refreshPanelSoon);

  /** Metric columns one after the other, so that the page answers meanwhile. */
  const loadMetrics = async () => {
    let done = 0;
    for (const range of [...firsts, ...others]) {
      await metricValues(range.metric);
      done += 1;
      byId("loading-metrics").textContent = done < ranges.length ? `loading ${done} of ${ranges.length}` : "";
      range.control.refresh(selection, colours);
      await new Promise((resolve) => setTimeout(resolve));
    }
    viewer.again();
    document.documentElement.dataset.ready = "all";
  };

  if (innerWidth < 760) byId("filters").open = false;
  readAddress().then(() => {
    performance.mark("first rows");
    document.documentElement.dataset.ready = "first";
    requestAnimationFrame(() => setTimeout(() => loadMetrics().catch(fail)));
  }, fail);
};

addEventListener("DOMContentLoaded", () => {
  Promise.all([part("core"), part("outlines")]).then(([core, lines]) => {
    arrived.delete("core");
    if (!core.count) return;
    byId("explorer").hidden = false;
    start(core, lines);
  }).catch((error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  });
});
