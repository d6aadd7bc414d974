// Ties the parts together. The address after # holds filters, order and the chosen sample, so that a view can be sent.

const FIRST_LOOK = 200; // rows of the list among which a pair with pictures is looked for
const WIDE_PX = 1180, NARROW_PX = 760; // as in explorer.css

const tellTrouble = (error) => {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
};

const copyOnClick = (id, text) => {
  const button = byId(id), words = button.textContent;
  button.addEventListener("click", () => {
    navigator.clipboard?.writeText(text()).then(() => {
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = words), 1200);
    }, () => {});
  });
};

/** Where the viewer stands under the list, a click must show that something happened. */
const bringViewer = () => {
  if (innerWidth > WIDE_PX) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("viewer").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
};

const setBoxMode = (map, is) => {
  byId("box-mode").setAttribute("aria-pressed", String(is));
  map.setBoxMode(is);
};

const connectMapTools = (map) => {
  byId("zoom-in").addEventListener("click", () => map.zoom(ZOOM_STEP));
  byId("zoom-out").addEventListener("click", () => map.zoom(1 / ZOOM_STEP));
  byId("zoom-all").addEventListener("click", map.all);
  byId("box-mode").addEventListener("click", () => setBoxMode(map, byId("box-mode").getAttribute("aria-pressed") !== "true"));
};

const connectKeys = (step) => {
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("explore").addEventListener("keydown", (event) => {
    const { tagName, type } = event.target;
    const typed = tagName === "SELECT" || (tagName === "INPUT" && type !== "range" && type !== "checkbox");
    if (typed || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n" || event.key === "N") step(1);
    else if (event.key === "p" || event.key === "P") step(-1);
    else if (event.key === "/") byId("search").focus();
    else return;
    event.preventDefault();
  });
};

/** A button for every filter that is set, to clear it. */
const tellActive = (controls, selection, changed) => {
  const set = controls.filter((control) => selection.failsOf(control.name));
  const button = (words, meaning, chosen) => {
    const chip = make("button", words, "chip");
    chip.type = "button";
    chip.setAttribute("aria-label", meaning);
    chip.addEventListener("click", () => {
      chosen.forEach((control) => control.clear());
      changed();
    });
    return chip;
  };
  const chips = set.map((control) => button(`${control.label} ×`, `Clear ${control.label}`, [control]));
  if (set.length > 1) chips.push(button("Clear all", "Clear all filters", set));
  byId("active-count").textContent = set.length ? `${set.length} set` : "";
  byId("active").replaceChildren(...chips);
};

/** Metric columns one after the other, so that the page answers meanwhile. */
const loadMetrics = async (store, ranges, refresh) => {
  let done = 0;
  for (const range of ranges) {
    await store.measuredBy(range.metric);
    done += 1;
    byId("loading-metrics").textContent = done < ranges.length ? `loading ${done} of ${ranges.length}` : "";
    refresh(range);
    await new Promise((resolve) => setTimeout(resolve));
  }
};

const start = (core, lines) => {
  const store = makeStore(core), selection = makeSelection(store.count), address = makeAddress();
  const pictureOf = (row) => store.pictureOf(row);
  let current = -1, colours = schemeColours();

  const open = (row, follow) => {
    current = row;
    address.remember("sample", store.ids[row]);
    viewer.show(row);
    list.setCurrent(row, true);
    if (follow && !map.inView(row)) map.centre(row);
    map.show({ current: row });
    tellPosition();
    address.write();
  };
  const tellPosition = () => {
    const place = list.placeOf(current);
    byId("position").textContent = place < 0 ? "not in this selection" : `${counted(place + 1)} of ${counted(list.size())}`;
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
    list.setRows(order.rows(), order.metric());
    byId("shown-count").textContent = counted(rows.length);
    byId("held-count").textContent = `of ${counted(store.count)} samples`;
    byId("none-left").hidden = rows.length > 0;
    byId("list").hidden = rows.length === 0;
    map.show({ rows });
    tellActive(controls, selection, changed);
    if (rows.length && list.placeOf(current) < 0) open(firstToShow(), false);
    else list.setCurrent(current, false);
    tellPosition();
    address.write();
    refreshSoon();
  };
  const refreshSoon = oncePerFrame(() => controls.forEach((control) => control.refresh(selection, colours)));

  const map = makeMap(byId("map"), store, lines, {
    open: (row) => {
      open(row, false);
      bringViewer();
    },
    box: (bounds) => {
      box.apply(bounds);
      setBoxMode(map, false);
      changed();
    },
    drawn: (count, single) => {
      byId("map-words").textContent = `${counted(count)} in sight${single ? "" : ", as a density: zoom in for single samples"}. Drag to move, click to open, shift and drag to select a box.`;
    },
  });
  const list = makeList(byId("list"), store, pictureOf, {
    open: (row, clicked) => {
      open(row, true);
      if (clicked) bringViewer();
    },
  });
  const viewer = makeViewer(store, pictureOf);
  const facets = facetControls(store, selection, address, changed);
  const ranges = rangeControls(store, selection, address, changed, tellTrouble);
  const box = boxControl(store, selection, address, (bounds) => map.show({ box: bounds }));
  const controls = [searchControl(store, selection, address, changed), ...facets, ...ranges, box];
  const order = makeOrder(store, selection, address, changed, tellTrouble);
  const rest = fillPanel(store, facets, ranges);

  const readAddress = async () => {
    const wanted = address.read();
    for (const control of controls) await control.read(wanted);
    await order.read(wanted);
    const asked = store.ids.indexOf(wanted.get("sample") ?? "");
    changed();
    if (asked >= 0) open(asked, true);
  };
  const step = (by) => {
    if (!list.size()) return;
    const place = list.placeOf(current);
    open(list.at(place < 0 ? 0 : (place + by + list.size()) % list.size()), true);
  };

  connectMapTools(map);
  connectKeys(step);
  copyOnClick("copy-code", () => byId("code-line").textContent);
  copyOnClick("copy-link", () => location.href);
  byId("clear-none").addEventListener("click", () => {
    controls.forEach((control) => control.clear());
    changed();
  });
  addEventListener("hashchange", () => {
    if (!address.isOurs() && location.hash.includes("=")) readAddress().catch(tellTrouble);
  });
  const repaint = () => {
    colours = schemeColours();
    map.redraw();
    refreshSoon();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new ResizeObserver(repaint).observe(byId("map"));
  for (const folded of [rest, byId("filters")]) folded.addEventListener("toggle", refreshSoon);

  if (innerWidth < NARROW_PX) byId("filters").open = false;
  return readAddress().then(() => {
    performance.mark("first rows");
    document.documentElement.dataset.ready = "first";
    const load = () => loadMetrics(store, ranges, (range) => range.refresh(selection, colours)).then(() => {
      viewer.again();
      performance.mark("all columns");
      document.documentElement.dataset.ready = "all";
    });
    requestAnimationFrame(() => setTimeout(() => load().catch(tellTrouble)));
  });
};

addEventListener("DOMContentLoaded", () => {
  Promise.all([part("core"), part("outlines")]).then(([core, lines]) => {
    arrived.delete("core"); // unpacked below
    if (!core.count) return undefined;
    byId("explorer").hidden = false;
    return start(core, lines);
  }).catch(tellTrouble);
});
