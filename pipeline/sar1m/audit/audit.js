"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const pairs = JSON.parse(byId("pairs-content").textContent);
  const swipe = byId("swipe");
  let current = 0;

  const make = (tag, text) => {
    const node = document.createElement(tag);
    node.textContent = text;
    return node;
  };

  const swipeTo = (percent) => {
    swipe.style.setProperty("--at", `${percent}%`);
    byId("swipe-range").setAttribute("aria-valuetext", `${percent} % SAR, ${100 - percent} % optical`);
  };

  const showPicture = (image, source, alt) => {
    if (source) image.src = source;
    else image.removeAttribute("src");
    image.hidden = !source;
    image.alt = source ? alt : "";
  };

  const show = (number) => {
    current = (number + pairs.length) % pairs.length;
    const pair = pairs[current];
    showPicture(byId("sar-image"), pair.sar, `SAR of ${pair.id}`);
    showPicture(byId("optical-image"), pair.optical, `Optical picture of ${pair.id}`);
    swipe.style.setProperty("--aspect", String(pair.aspect || 1));
    byId("optical-image").style.setProperty("--down", `${100 * pair.down}%`);
    byId("optical-image").style.setProperty("--right", `${100 * pair.right}%`);
    byId("pair-name").textContent = pair.id;
    byId("position").textContent = `${current + 1} of ${pairs.length}`;
    const groups = pair.facts.map(([name, value]) => {
      const group = document.createElement("div");
      group.append(make("dt", name), make("dd", value));
      return group;
    });
    byId("facts").replaceChildren(...groups);
  };

  const move = () => {
    const moved = swipe.classList.toggle("moved");
    byId("move").setAttribute("aria-pressed", String(moved));
    byId("move").textContent = moved ? "Show the optical picture as it is" : "Move the optical picture onto the SAR";
  };

  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { n: () => show(current + 1), p: () => show(current - 1), m: move }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  };

  byId("swipe-range").addEventListener("input", (event) => swipeTo(Number(event.target.value)));
  byId("previous").addEventListener("click", () => show(current - 1));
  byId("next").addEventListener("click", () => show(current + 1));
  byId("move").addEventListener("click", move);
  byId("worst").addEventListener("keydown", onKey);
  swipeTo(Number(byId("swipe-range").value));
  show(0);
})();
