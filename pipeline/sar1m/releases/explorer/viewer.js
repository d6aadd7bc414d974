// The chosen sample: its pictures under a swipe, and where every part of it comes from.

const GROUPS = [
  ["Place", ["site", "cell", "patch", "block", "country", "ecoregion", "epsg"]],
  ["SAR image", ["sar_product", "sar_datetime", "platform", "orbit_state", "relative_orbit", "datatake", "polarisations", "quantity", "processing", "provider", "sar_digest"]],
  ["Optical image", ["optical_product", "optical_datetime", "processing_baseline", "offset_applied", "bands", "optical_provider", "optical_digest", "cloud_source"]],
  ["Registration", ["registration_status"]],
  ["Terms", ["licence_sar", "licence_optical", "attribution"]],
  ["Lock", ["build", "pixel_hash", "sar_hash", "optical_hash"]],
];
const REGISTRATION = ["dt_hours", "shift_row_px", "shift_col_px", "applied_row_px", "applied_col_px", "residual_px", "disagreement_px", "registration_psr", "polarisation_spread_px", "scene_shift_row_px", "scene_shift_col_px", "scene_psr"];
const LOCK_WORDS = {
  build: "the build that held the sample: first digits of its manifest's sha256",
  pixel_hash: "blake2b-128 of the hashes of its arrays, by provenance/lock.parquet",
  sar_hash: "blake2b-128 of the decoded SAR digital numbers",
  optical_hash: "blake2b-128 of the decoded optical digital numbers",
};

/** store: columns; pictureOf(row): promise of [sar, optical] or null. */
const makeViewer = (store, pictureOf) => {
  const meaning = new Map([...store.rows, ...Object.entries(LOCK_WORDS)]);
  let shown = -1;

  const swipeTo = (percent) => {
    byId("swipe").style.setProperty("--at", `${percent}%`);
    byId("swipe-range").setAttribute("aria-valuetext", `${percent} % SAR, ${100 - percent} % optical`);
  };
  byId("swipe-range").addEventListener("input", (event) => swipeTo(Number(event.target.value)));
  swipeTo(50);

  const codeLine = (row) => {
    const split = store.text("split", row);
    return `import xarray as xr; xr.open_zarr("data/${split}.zarr", consolidated=False)["sar"][${store.index[row]}, 0].plot(robust=True)`;
  };

  const setImage = (id, source, words) => {
    const image = byId(id);
    if (source) image.src = source;
    else image.removeAttribute("src");
    image.alt = source ? words : "";
    image.hidden = !source;
  };

  const showPair = (row, pair, trouble) => {
    if (row !== shown) return;
    const [sar, optical] = pair || [null, null];
    const id = store.ids[row];
    setImage("sar-image", sar, `SAR of ${id}`);
    setImage("optical-image", optical, `Optical partner of ${id}`);
    for (const name of ["swipe-range", "divider", "badge-optical"]) byId(name).hidden = !optical;
    byId("badge-sar").hidden = !sar;
    byId("no-picture").hidden = Boolean(sar);
    byId("no-picture-words").textContent = trouble || `No picture here: ${counted(settings.pictured)} of ${counted(store.count)} samples have one on this page, and this is not among them. The line of Python below shows it.`;
    const partner = store.text("partner", row);
    const paired = partner === store.paired_words;
    byId("why").hidden = paired;
    byId("why").textContent = paired ? "" : `SAR alone. Optical partner: ${partner}.`;
  };

  const line = (name, value, words) => {
    const group = make("div");
    if (value.length > 30) group.className = "wide";
    if (words) group.title = words;
    const cell = make("dd");
    cell.append(value);
    group.append(make("dt", name.replaceAll("_", " ")), cell);
    return group;
  };

  const section = (title, lines, open) => {
    const box = make("details");
    box.open = open;
    const list = make("dl", undefined, "facts");
    list.append(...lines);
    box.append(make("summary", title), list);
    return box;
  };

  const metricLine = (metric, row) => {
    const value = metric.known && metric.values ? metric.values[row] : NaN;
    const unit = metric.unit && metric.unit !== "1" ? ` ${metric.unit}` : "";
    return line(metric.name, Number.isFinite(value) ? measured(value) + unit : "–", metric.meaning);
  };

  const licenceLines = (value) =>
    ["sar", "optical"].flatMap((side) => {
      const provider = value(side === "sar" ? "provider" : "optical_provider");
      const found = settings.licences.find(([source, licence]) => source === `${provider} (${side})` && licence === value(`licence_${side}`))
        || settings.licences.find(([, licence]) => licence === value(`licence_${side}`));
      if (!found || value(`licence_${side}`) === "–") return [];
      const [source, licence, url, redistribution] = found;
      const words = make("span");
      words.append(`${source}: ${licence}; `);
      words.append(redistribution === "redistribute" ? "pixels in the release" : "pixels stay with their provider, recipes only");
      if (url.startsWith("https://")) {
        const link = make("a", " terms ↗");
        Object.assign(link, { href: url, rel: "noreferrer", target: "_blank" });
        words.append(link);
      }
      const terms = line(`terms of the ${side === "sar" ? "SAR" : "optical"} pixels`, "", "row of LICENSES.csv");
      terms.className = "wide";
      terms.querySelector("dd").replaceChildren(words);
      return [terms];
    });

  const coverBars = (cover) => {
    const box = make("div", undefined, "cover");
    for (const [name, share] of cover) {
      const bar = make("div", undefined, "choice");
      const fill = make("span", undefined, "choice-bar");
      fill.style.setProperty("--share", `${share}%`);
      bar.append(make("span", name, "choice-name"), make("span", share < 0.1 ? "<0.1 %" : `${share} %`, "choice-count"), fill);
      box.append(bar);
    }
    return box;
  };

  const showProvenance = (row, details) => {
    if (row !== shown) return;
    const at = row % store.part_rows;
    const value = (name) => (details[name] ? details[name][0][details[name][1][at]] || "–" : undefined);
    const lines = (names) => names.filter((name) => value(name) !== undefined).map((name) => line(name, value(name), meaning.get(name)));
    const metric = new Map(store.metrics.map((one) => [one.name, one]));
    const boxes = GROUPS.map(([title, names]) => {
      const here = lines(names);
      if (title === "Registration") here.push(...REGISTRATION.map((name) => metricLine(metric.get(name), row)));
      if (title === "Terms") here.push(...licenceLines(value));
      if (title === "Place") here.unshift(line("longitude, latitude", `${store.lon[row].toFixed(5)}, ${store.lat[row].toFixed(5)}`, "of the patch centre"));
      return here.length ? section(title, here, ["Place", "SAR image", "Optical image"].includes(title)) : null;
    });
    const measures = store.metrics.filter((one) => one.known && !REGISTRATION.includes(one.name));
    boxes.splice(4, 0, section("Measured on this sample", measures.map((one) => metricLine(one, row)), true));
    const grouped = new Set(GROUPS.flatMap(([, names]) => names));
    const others = store.rows.map(([name]) => name).filter((name) => !grouped.has(name));
    boxes.push(section("More", lines(others), false));
    if (details.land_cover[at].length) {
      const box = make("details");
      box.open = true;
      box.append(make("summary", "Land cover"), coverBars(details.land_cover[at]));
      boxes.splice(1, 0, box);
    }
    const open = new Map([...byId("provenance").querySelectorAll("details")].map((box) => [box.firstChild.textContent, box.open]));
    for (const box of boxes) if (box && open.has(box.firstChild.textContent)) box.open = open.get(box.firstChild.textContent);
    byId("provenance").replaceChildren(...boxes.filter(Boolean));
  };

  const show = (row) => {
    shown = row;
    byId("sample-name").textContent = store.ids[row];
    const split = store.text("split", row);
    const chips = [make("span", split, `chip ${split}`)];
    for (const name of ["class", "country", "platform", "orbit_state", "polarisations"]) {
      if (store.text(name, row)) chips.push(make("span", store.text(name, row), "chip class"));
    }
    byId("chips").replaceChildren(...chips);
    byId("code-line").textContent = codeLine(row);
    const lon = store.lon[row].toFixed(5), lat = store.lat[row].toFixed(5);
    byId("place-link").href = `https://www.openstreetmap.org/?mlat=${lat}&mlon=${lon}#map=13/${lat}/${lon}`;
    if (store.pictured[row] < 0) showPair(row, null);
    else pictureOf(row).then((pair) => showPair(row, pair), (error) => showPair(row, null, error.message));
    part(numbered("rows", row, store.part_rows)).then(
      (details) => showProvenance(row, details),
      (error) => byId("provenance").replaceChildren(make("p", error.message, "missing")),
    );
  };
  return { show, again: () => shown >= 0 && show(shown) };
};
