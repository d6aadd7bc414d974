// The list: only the rows in sight are in the document, whatever the number of samples. A node keeps its row while it is
// in sight, so that a step of scrolling fills few nodes anew.

const ROW_PX = 64;
const BEYOND = 4; // rows kept above and below those in sight
const PICTURES_AFTER_MS = 90; // of rest: pictures are not loaded for rows that fly by

/** store: columns; pictureOf(row): promise of [sar, optical] or null; on: {open(row, clicked)}. */
const makeList = (scroller, store, pictureOf, on) => {
  const spacer = byId("list-height");
  const nodes = new Map(); // place in the order -> node
  const spare = [];
  let rows = new Uint32Array(0);
  let current = -1, metric = null, rest = 0;

  const build = () => {
    const node = make("div", undefined, "row");
    node.setAttribute("role", "option");
    const pictures = [make("img"), make("img")];
    pictures.forEach((picture) => {
      picture.alt = "";
      picture.decoding = "async";
    });
    const words = make("div", undefined, "row-words");
    const parts = { name: make("span", "", "row-name"), chip: make("span", "", "chip"), words: make("span", "", "row-words"), value: make("span", "", "row-value") };
    const line = make("span", undefined, "row-line");
    line.append(parts.chip, parts.words);
    words.append(parts.name, line);
    node.append(...pictures, words, parts.value);
    return Object.assign(node, { pictures, parts });
  };

  const fill = (node, place) => {
    const row = rows[place];
    const { parts } = node;
    const split = store.text("split", row);
    node.place = place;
    node.row = row;
    node.id = `row-${place}`;
    node.style.transform = `translateY(${place * ROW_PX}px)`;
    node.setAttribute("aria-setsize", String(rows.length));
    node.setAttribute("aria-posinset", String(place + 1));
    parts.name.textContent = store.ids[row];
    parts.chip.textContent = split;
    parts.chip.className = `chip ${split}`;
    const date = store.dates.names[store.dates.codes[row]];
    parts.words.textContent = [store.text("class", row), store.text("country", row), date].filter(Boolean).join(" · ");
    parts.value.textContent = metric ? measured(metric.values[row]) : "";
    node.classList.toggle("alone", store.text("partner", row) !== store.paired_words);
    for (const picture of node.pictures) {
      picture.removeAttribute("src");
      picture.className = "";
    }
  };

  const mark = (node) => {
    const here = node.row === current;
    node.classList.toggle("current", here);
    node.setAttribute("aria-selected", String(here));
    if (here) scroller.setAttribute("aria-activedescendant", node.id);
  };

  const sight = () => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_PX) - BEYOND);
    return [first, Math.min(rows.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW_PX) + BEYOND)];
  };

  const showPictures = () => {
    for (const node of nodes.values()) {
      const { row } = node;
      if (node.pictures[0].className) continue;
      if (store.pictured[row] < 0) {
        node.pictures.forEach((picture) => (picture.className = "none"));
        continue;
      }
      pictureOf(row).then((pair) => {
        if (node.row !== row || !pair) return;
        node.pictures.forEach((picture, side) => {
          picture.className = pair[side] ? "here" : "none";
          if (pair[side]) picture.src = pair[side];
        });
      }, () => node.pictures.forEach((picture) => (picture.className = "none")));
    }
  };

  const render = () => {
    const [first, last] = sight();
    for (const [place, node] of nodes) {
      if (place >= first && place < last) continue;
      nodes.delete(place);
      spare.push(node);
    }
    for (let place = first; place < last; place += 1) {
      if (nodes.has(place)) continue;
      const node = spare.pop() || spacer.appendChild(build());
      node.hidden = false;
      nodes.set(place, node);
      fill(node, place);
      mark(node);
    }
    for (const node of spare) node.hidden = true;
    clearTimeout(rest);
    rest = setTimeout(showPictures, PICTURES_AFTER_MS);
  };
  const renderSoon = oncePerFrame(render);

  const placeOf = (row) => rows.indexOf(row);
  const reveal = (place) => {
    const top = place * ROW_PX;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + ROW_PX > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW_PX - scroller.clientHeight;
  };

  scroller.addEventListener("scroll", renderSoon, { passive: true });
  new ResizeObserver(renderSoon).observe(scroller);
  spacer.addEventListener("click", (event) => {
    const node = event.target.closest(".row");
    if (node) on.open(node.row, true);
  });
  scroller.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / ROW_PX) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length };
    if (!(event.key in steps) || !rows.length) return;
    event.preventDefault();
    const place = Math.min(rows.length - 1, Math.max(0, placeOf(current) + steps[event.key]));
    on.open(rows[place], false);
  });

  return {
    placeOf,
    at: (place) => rows[place],
    size: () => rows.length,
    setRows(wanted, by) {
      rows = wanted;
      metric = by;
      spacer.style.height = `${rows.length * ROW_PX}px`;
      scroller.scrollTop = 0;
      for (const node of nodes.values()) spare.push(node);
      nodes.clear();
      scroller.removeAttribute("aria-activedescendant");
      render();
    },
    /** into: whether the list scrolls to the row; after a change of filters or order it stays at its head. */
    setCurrent(row, into) {
      current = row;
      const place = into ? placeOf(row) : -1;
      if (place >= 0) reveal(place);
      render();
      for (const node of nodes.values()) mark(node);
    },
  };
};
