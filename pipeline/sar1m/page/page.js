"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const content = JSON.parse(byId("browser-content").textContent);
  const samples = content.samples;
  const map = document.querySelector("svg.map");
  const cursor = map.querySelector(".cursor");
  const filters = ["split", "site", "paired", "class"].map((name) => byId(`filter-${name}`));
  const CLICK_REACH_PX = 28;
  let shown = samples.map((_, number) => number);
  let current = Math.max(0, samples.findIndex((sample) => sample.paired)); // a pair says more than SAR alone

  const make = (tag, text, className) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  const fillSelect = (select, names) => {
    for (const name of [...new Set(names)]) {
      const option = make("option", name);
      option.value = name;
      select.append(option);
    }
  };

  const picked = () => {
    const [split, site, paired, kind] = filters.map((select) => select.value);
    return (sample) =>
      (!split || sample.split === split) &&
      (!site || sample.site === site) &&
      (!paired || sample.paired === (paired === "yes")) &&
      (!kind || sample.classes.includes(kind));
  };

  const swipeTo = (percent) => {
    byId("swipe").style.setProperty("--at", `${percent}%`);
    byId("swipe-range").setAttribute("aria-valuetext", `${percent} % SAR, ${100 - percent} % optical`);
  };

  const showPictures = (sample) => {
    byId("sar-image").src = sample.sar;
    byId("sar-image").alt = `SAR of ${sample.id}`;
    const optical = byId("optical-image");
    if (sample.optical) {
      optical.src = sample.optical;
    } else {
      optical.removeAttribute("src");
    }
    optical.alt = sample.optical ? `Optical partner of ${sample.id}` : "";
    for (const id of ["optical-image", "swipe-range", "divider", "badge-optical"]) byId(id).hidden = !sample.optical;
    byId("why").hidden = Boolean(sample.optical);
    byId("why").textContent = sample.optical ? "" : `SAR alone: no optical partner (${sample.why}).`;
  };

  const showWords = (sample) => {
    byId("sample-name").textContent = sample.id;
    const chips = [make("span", sample.split, `chip ${sample.split}`), make("span", sample.site, "chip")];
    byId("chips").replaceChildren(...chips, ...sample.classes.map((name) => make("span", name, "chip class")));
    const facts = content.facts.flatMap((number) => {
      const group = make("div");
      group.append(make("dt", content.columns[number][0].replaceAll("_", " ")), make("dd", sample.values[number]));
      if (sample.values[number].length > 40) group.className = "wide";
      group.title = content.columns[number][1];
      return [group];
    });
    byId("facts").replaceChildren(...facts);
    const rows = content.columns.map(([name, meaning], number) => {
      const row = make("tr");
      const head = make("th");
      head.scope = "row";
      head.append(make("code", name));
      row.append(head, make("td", sample.values[number]), make("td", meaning, "prose"));
      return row;
    });
    byId("columns").replaceChildren(...rows);
  };

  const show = (number) => {
    current = number;
    const sample = samples[number];
    showPictures(sample);
    showWords(sample);
    byId("position").textContent = `${shown.indexOf(number) + 1} of ${shown.length}`;
    cursor.setAttribute("cx", sample.place[0]);
    cursor.setAttribute("cy", sample.place[1]);
    const strip = byId("strip");
    for (const thumb of strip.children) {
      const here = Number(thumb.dataset.number) === number;
      thumb.setAttribute("aria-pressed", String(here));
      if (here) {
        // scrollIntoView would also move the page
        strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
      }
    }
  };

  const thumbnail = (sample, number) => {
    const button = make("button", undefined, `thumb ${sample.split}`);
    button.type = "button";
    button.dataset.number = String(number);
    button.title = `${sample.site}, ${sample.split}`;
    const picture = make("img");
    picture.src = sample.optical || sample.sar;
    picture.alt = sample.id;
    button.append(picture);
    button.addEventListener("click", () => show(number));
    return button;
  };

  const applyFilters = () => {
    const fits = picked();
    shown = samples.map((_, number) => number).filter((number) => fits(samples[number]));
    byId("shown-count").textContent = `${shown.length} of ${samples.length} shown`;
    for (const thumb of byId("strip").children) thumb.hidden = !shown.includes(Number(thumb.dataset.number));
    byId("viewer").hidden = !shown.length;
    byId("none-left").hidden = Boolean(shown.length);
    if (shown.length) show(shown.includes(current) ? current : shown[0]);
  };

  const step = (by) => {
    if (shown.length) show(shown[(shown.indexOf(current) + by + shown.length) % shown.length]);
  };

  const nearest = (event) => {
    const toScreen = map.getScreenCTM();
    let best = { number: -1, distance: CLICK_REACH_PX };
    samples.forEach((sample, number) => {
      const spot = new DOMPoint(sample.place[0], sample.place[1]).matrixTransform(toScreen);
      const distance = Math.hypot(spot.x - event.clientX, spot.y - event.clientY);
      if (distance < best.distance) best = { number, distance };
    });
    return best.number;
  };

  const openFromMap = (event) => {
    const number = nearest(event);
    if (number < 0) return;
    if (!shown.includes(number)) {
      byId("filters").reset();
      applyFilters();
    }
    show(number);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    byId("browser").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  };

  const onKey = (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { n: 1, N: 1, p: -1, P: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  };

  fillSelect(filters[0], samples.map((sample) => sample.split));
  fillSelect(filters[1], samples.map((sample) => sample.site).sort());
  fillSelect(filters[3], samples.flatMap((sample) => sample.classes).sort());
  byId("strip").append(...samples.map(thumbnail));
  for (const select of filters) select.addEventListener("change", applyFilters);
  // a reset event comes before the values change
  byId("filters").addEventListener("reset", () => setTimeout(applyFilters));
  byId("swipe-range").addEventListener("input", (event) => swipeTo(Number(event.target.value)));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("browser").addEventListener("keydown", onKey);
  map.addEventListener("click", openFromMap);
  swipeTo(Number(byId("swipe-range").value));
  applyFilters();
})();
