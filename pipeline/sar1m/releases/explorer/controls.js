// Everything one can filter by, each as {name, label, refresh, clear, read}: read takes the control's part of an address.

const FIRST_METRICS = ["residual_px", "enl", "cloud_frac", "dt_hours", "dynamic_range_db", "incidence_deg"];
const TYPING_MS = 120;

/** What the address after # holds. */
const makeAddress = () => {
  const parts = new URLSearchParams();
  let written = "";
  return {
    remember(key, value) {
      if (value === null || value === "") parts.delete(key);
      else parts.set(key, value);
    },
    write() {
      written = parts.toString();
      history.replaceState(null, "", written ? `#${written}` : "#explore");
    },
    /** What somebody else wrote there: a link, the reader, the way back. */
    read: () => new URLSearchParams(location.hash.slice(1)),
    isOurs: () => location.hash.slice(1) === written,
  };
};

const facetControls = (store, selection, address, changed) =>
  store.facets.filter((facet) => facet.names.length > 1).map((facet) => {
    const apply = (codes) => {
      selection.set(facet.name, codes.length ? facetTest(facet.codes, codes) : null);
      address.remember(facet.name, codes.length ? JSON.stringify(codes.map((code) => facet.names[code])) : null);
    };
    const panel = makeFacet(facet, store.count, (codes) => {
      apply(codes);
      changed();
    });
    const read = (wanted) => {
      let names = [];
      try {
        names = JSON.parse(wanted.get(facet.name) || "[]");
      } catch {
        // an address cut short: as if the filter were not in it
      }
      apply(panel.choose(Array.isArray(names) ? names : []));
    };
    return { name: facet.name, label: facet.label, box: panel.box, refresh: panel.refresh, clear: () => apply(panel.choose([])), read };
  });

const rangeControls = (store, selection, address, changed, fail) =>
  store.measuredOnes.map((metric) => {
    const name = `metric ${metric.name}`;
    const apply = (low, high) => {
      const is = low !== null || high !== null;
      selection.set(name, is ? rangeTest(metric.values, low, high) : null);
      address.remember(metric.name, is ? `${low ?? ""}..${high ?? ""}` : null);
    };
    const panel = makeRange(metric, (low, high) => {
      store.measuredBy(metric).then(() => {
        apply(low, high);
        changed();
      }, fail);
    });
    const limit = (text) => (text === undefined || text === "" || !Number.isFinite(Number(text)) ? null : Number(text));
    const read = async (wanted) => {
      const [low, high] = (wanted.get(metric.name) || "").split("..").map(limit);
      const limits = [low, high ?? null];
      if (limits.some((one) => one !== null)) await store.measuredBy(metric);
      panel.choose(...limits);
      apply(...limits);
    };
    const clear = () => {
      panel.choose(null, null);
      apply(null, null);
    };
    return { name, label: metric.name, box: panel.box, refresh: panel.refresh, clear, read, metric };
  });

/** show(bounds) draws the box on the map. */
const boxControl = (store, selection, address, show) => {
  const apply = (bounds) => {
    selection.set("box", bounds ? boxTest(store.lon, store.lat, bounds) : null);
    address.remember("box", bounds ? bounds.join(",") : null);
    show(bounds);
  };
  const read = (wanted) => {
    const edges = (wanted.get("box") || "").split(",").map(Number);
    apply(edges.length === 4 && edges.every(Number.isFinite) ? edges : null);
  };
  return { name: "box", label: "Box on the map", refresh: () => {}, clear: () => apply(null), read, apply };
};

const searchControl = (store, selection, address, changed) => {
  let typing = 0;
  const apply = (text) => {
    selection.set("search", text ? textTest(store, text) : null);
    address.remember("search", text);
  };
  const read = (wanted) => {
    byId("search").value = wanted.get("search") || "";
    apply(byId("search").value);
  };
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      apply(byId("search").value.trim());
      changed();
    }, TYPING_MS);
  });
  return { name: "search", label: "Search", refresh: () => {}, clear: () => read(new URLSearchParams()), read };
};

/** The order of the list: by a metric, smallest or largest first. */
const makeOrder = (store, selection, address, changed, fail) => {
  const ordered = makeOrders(store), select = byId("sort"), button = byId("direction");
  const isDown = () => button.getAttribute("aria-pressed") === "true";
  const setDown = (down) => {
    button.setAttribute("aria-pressed", String(down));
    button.textContent = down ? "↓" : "↑";
    button.setAttribute("aria-label", down ? "Largest first; press for smallest first" : "Smallest first; press for largest first");
    button.disabled = select.value === "";
    address.remember("direction", down ? "down" : null);
  };
  const choose = async (name, down) => {
    const metric = store.metric(name);
    if (metric) await store.measuredBy(metric);
    select.value = metric ? metric.name : "";
    address.remember("order", select.value);
    setDown(down);
  };
  for (const metric of store.measuredOnes) select.append(new Option(metric.name, metric.name));
  select.addEventListener("change", () => choose(select.value, isDown()).then(changed, fail));
  button.addEventListener("click", () => {
    setDown(!isDown());
    changed();
  });
  return {
    read: (wanted) => choose(wanted.get("order"), wanted.get("direction") === "down"),
    metric: () => store.metric(select.value) || null,
    rows() {
      const rows = selection.rows(), metric = store.metric(select.value);
      return metric ? ordered(selection.failing, rows.length, metric.number, isDown()) : rows;
    },
  };
};

/** Puts facets and ranges into the panel, the metrics most asked for first. */
const fillPanel = (store, facets, ranges) => {
  byId("facets").append(...facets.map((control) => control.box));
  const rank = ({ metric }) => (FIRST_METRICS.includes(metric.name) ? FIRST_METRICS.indexOf(metric.name) : FIRST_METRICS.length);
  ranges.sort((a, b) => rank(a) - rank(b) || a.metric.number - b.metric.number);
  const firsts = ranges.filter((range) => rank(range) < FIRST_METRICS.length), others = ranges.slice(firsts.length);
  const rest = make("details");
  rest.append(make("summary", `${others.length} more metrics`), ...others.map((range) => range.box));
  byId("ranges").append(...firsts.map((range) => range.box), ...(others.length ? [rest] : []));
  const none = store.metrics.filter((metric) => !metric.known).map((metric) => metric.name);
  const alike = store.facets.filter((facet) => facet.names.length === 1 && facet.names[0]);
  byId("unmeasured").textContent = [
    alike.length ? `The same for all: ${alike.map((facet) => `${facet.label.toLowerCase()} ${facet.names[0]}`).join("; ")}.` : "",
    none.length ? `Not measured in this release: ${none.join(", ")}.` : "",
  ].join(" ");
  return rest;
};
