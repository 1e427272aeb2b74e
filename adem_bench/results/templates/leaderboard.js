"use strict";
// Headers become buttons that sort, and columns can be chosen. All of it is kept in the page's
// address: #columns=headlines, #columns=all, or names of columns; #sort=NAME, or -NAME for downwards.

const table = document.querySelector("table.leaderboard");
const body = table.tBodies[0];
const headers = [...table.querySelectorAll("th[data-position]")];
const own = document.querySelector(".own input");
const chooser = document.querySelector(".chooser");
const PRESETS = {
  headlines: (header) => header.dataset.kind === "headline",
  all: () => true,
};

for (const header of headers) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  header.append(button);
  button.addEventListener("click", () => { turn(header); sort(); });
}

function turn(header) {
  const before = header.getAttribute("aria-sort");
  const other = { ascending: "descending", descending: "ascending" };
  const direction = before ? other[before] : header.dataset.first;
  for (const sorted of table.querySelectorAll("th[aria-sort]")) sorted.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  keep("sort", (direction === "descending" ? "-" : "") + nameOf(header));
}

function nameOf(header) {
  return header.dataset.column ?? (header.classList.contains("rank") ? "rank" : "model");
}

function address() {
  return new URLSearchParams(location.hash.slice(1));
}

function keep(name, value) {
  const fields = address();
  fields.set(name, value);
  history.replaceState(null, "", "#" + fields);
}

function sortAsAsked() {
  const given = address().get("sort");
  const header = headers.find((one) => given === nameOf(one) || given === "-" + nameOf(one));
  if (!header) return;
  for (const sorted of table.querySelectorAll("th[aria-sort]")) sorted.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", given === nameOf(header) ? "ascending" : "descending");
  sort();
}

// Rows without a whole figure in the column stay last; one's own stay first, if asked to.
function sort() {
  const header = table.querySelector("th[aria-sort]") ?? headers[0];
  const sign = (header.getAttribute("aria-sort") ?? header.dataset.first) === "ascending" ? 1 : -1;
  const keyed = [...body.rows].map((row) => ({
    row,
    behind: own?.checked && row.classList.contains("published") ? 1 : 0,
    key: row.cells[Number(header.dataset.position)].dataset.value || null,
  }));
  const figures = keyed.every(({ key }) => key === null || Number.isFinite(Number(key)));
  const compare = figures ? (x, y) => x - y : (x, y) => x.localeCompare(y, "en");
  keyed.sort((a, b) => {
    if (a.behind !== b.behind) return a.behind - b.behind;
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * compare(a.key, b.key);
  });
  body.append(...keyed.map(({ row }) => row));
}

const choosable = headers.filter((header) => header.dataset.column !== undefined);
const boxes = new Map();

function show(isShown) {
  const widths = {};
  for (const header of choosable) {
    const shown = isShown(header);
    const { section, position } = header.dataset;
    widths[section] = (widths[section] ?? 0) + shown;
    header.hidden = !shown;
    for (const row of body.rows) row.cells[Number(position)].hidden = !shown;
    boxes.get(header).checked = shown;
  }
  for (const group of table.querySelectorAll("th.group")) {
    const width = widths[group.dataset.section];
    group.hidden = width === 0;
    if (width) group.colSpan = width;
  }
}

function wanted() {
  const given = address().get("columns");
  if (given === null) return null;
  if (Object.hasOwn(PRESETS, given)) return PRESETS[given];
  const names = new Set(given.split(",").map(decodeURIComponent));
  return (header) => names.has(header.dataset.column);
}

function choose(text) {
  keep("columns", text);
  show(wanted());
}

function named() {
  const chosen = choosable.filter((header) => boxes.get(header).checked);
  return chosen.map((header) => encodeURIComponent(header.dataset.column)).join(",");
}

function offer() {
  for (const name of Object.keys(PRESETS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name === "all" ? "All" : "Headlines only";
    button.addEventListener("click", () => choose(name));
    chooser.append(button);
  }
  chooser.append(document.createElement("br"));
  const fields = {};
  for (const header of choosable) {
    const { section } = header.dataset;
    if (!fields[section]) {
      fields[section] = document.createElement("fieldset");
      const legend = document.createElement("legend");
      legend.textContent = section;
      fields[section].append(legend);
      chooser.append(fields[section]);
    }
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.addEventListener("change", () => choose(named()));
    label.append(box, " " + header.textContent);
    boxes.set(header, box);
    fields[section].append(label);
  }
  chooser.hidden = false;
}

offer();
const narrow = window.matchMedia("(max-width: 40rem)");
const isGiven = () => wanted() ?? (narrow.matches ? PRESETS.headlines : PRESETS.all);
show(isGiven());
sortAsAsked();
window.addEventListener("hashchange", () => {
  if (wanted()) show(wanted());
  sortAsAsked();
});
narrow.addEventListener("change", () => show(isGiven()));
if (own) {
  own.parentElement.hidden = false;
  own.addEventListener("change", sort);
}
