// Which samples are selected. Every row counts the filters it fails: selected rows fail none, and what a filter's own
// control shows is counted over the rows that fail no other.

const makeSelection = (count) => {
  const failing = new Uint8Array(count);
  const filters = new Map(); // name -> Uint8Array, 1 where the row fails
  let selected = null;

  const leave = (name) => {
    const fails = filters.get(name);
    if (!fails) return;
    for (let row = 0; row < count; row += 1) failing[row] -= fails[row];
    filters.delete(name);
    selected = null;
  };

  return {
    failing,
    names: () => [...filters.keys()],
    failsOf: (name) => filters.get(name),
    leave,
    /** passes: (row) => boolean; null takes the filter away. */
    set(name, passes) {
      leave(name);
      if (!passes) return;
      const fails = new Uint8Array(count);
      for (let row = 0; row < count; row += 1) {
        if (!passes(row)) {
          fails[row] = 1;
          failing[row] += 1;
        }
      }
      filters.set(name, fails);
      selected = null;
    },
    /** Selected rows, ascending. */
    rows() {
      if (selected) return selected;
      let size = 0;
      for (let row = 0; row < count; row += 1) if (!failing[row]) size += 1;
      selected = new Uint32Array(size);
      for (let row = 0, at = 0; row < count; row += 1) if (!failing[row]) selected[at++] = row;
      return selected;
    },
  };
};

/** Filters as they stand in the address: plain values by name, and back. */
const facetTest = (codes, chosen) => {
  const wanted = new Uint8Array(Math.max(256, 1 + Math.max(...chosen)));
  for (const code of chosen) wanted[code] = 1;
  return (row) => wanted[codes[row]] === 1;
};

/** low, high: null where open. As pandas compares a float32 column: limits are rounded to single precision too. */
const rangeTest = (values, low, high) => {
  const least = low === null ? -Infinity : Math.fround(low);
  const most = high === null ? Infinity : Math.fround(high);
  return (row) => values[row] >= least && values[row] <= most; // NaN is neither
};

/** west may be larger than east: then the box crosses the antimeridian. */
const boxTest = (lon, lat, [west, south, east, north]) => (row) => {
  if (!(lat[row] >= south && lat[row] <= north)) return false;
  return west <= east ? lon[row] >= west && lon[row] <= east : lon[row] >= west || lon[row] <= east;
};

/** Part of a sample id or of a product name, in any case. */
const textTest = (store, text) => {
  const wanted = text.toLowerCase();
  const hits = store.products.map(({ names, codes }) => {
    const found = new Uint8Array(names.length);
    names.forEach((name, code) => {
      found[code] = name.toLowerCase().includes(wanted) ? 1 : 0;
    });
    return { found, codes };
  });
  return (row) => hits.some(({ found, codes }) => found[codes[row]]) || store.ids[row].toLowerCase().includes(wanted);
};

/** Rows by a metric, the smallest first, those without a value last; sorted once. */
const makeOrders = (store) => {
  const known = new Map();
  const order = (number) => {
    if (!known.has(number)) {
      const values = store.metrics[number].values;
      const rows = new Uint32Array(store.count);
      for (let row = 0; row < store.count; row += 1) rows[row] = row;
      const weight = Float64Array.from(values, (value) => (Number.isNaN(value) ? Infinity : value));
      rows.sort((a, b) => (weight[a] < weight[b] ? -1 : weight[a] > weight[b] ? 1 : a - b));
      known.set(number, rows);
    }
    return known.get(number);
  };
  return (failing, size, number, largestFirst) => {
    const all = order(number);
    const values = store.metrics[number].values;
    const rows = new Uint32Array(size);
    let at = 0;
    const take = (row) => {
      if (!failing[row]) rows[at++] = row;
    };
    if (!largestFirst) {
      all.forEach(take);
      return rows;
    }
    for (let n = all.length - 1; n >= 0; n -= 1) if (!Number.isNaN(values[all[n]])) take(all[n]);
    for (const row of all) if (Number.isNaN(values[row])) take(row);
    return rows;
  };
};
