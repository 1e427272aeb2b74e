"use strict";

// Texts of data sets and models reach the page through textContent alone, never as markup.

const RIGHT = 0, WRONG = 1, FIGURE = 2, FAILED = 3, MISSING = 4, NOT_ASKED = 5;
const LONG = 220;

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

// What is invisible, or turns the text around it, is shown by its number instead.
const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

function visible(text) {
  return text.replace(HIDDEN, (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = visible(text);
  return made;
}

function textBlock(text) {
  if (text.length <= LONG) return element("span", "text", text);
  const details = element("details");
  details.append(element("summary", "text", text.slice(0, LONG) + "…"), element("span", "text", text));
  return details;
}

function verdict([, , judged, figure]) {
  if (judged === RIGHT) return element("span", "verdict-tag is-right", "✓ right");
  if (judged === WRONG) return element("span", "verdict-tag is-wrong", "✗ wrong");
  if (judged === FAILED) return element("span", "verdict-tag is-wrong", "✗ failed");
  if (judged === NOT_ASKED) return element("span", "verdict-tag is-other", "row not usable");
  if (judged === MISSING) return element("span", "verdict-tag is-other", "not answered");
  return element("span", "verdict-tag is-other", figure === null ? "no score" : figure.toFixed(2));
}

// A name breaks between its parts: existence/, 0001/, 0.
function nameBlock(name, href) {
  const link = element("a", "text");
  link.href = href;
  for (const part of visible(name).split(/(?<=[/_=,])(?=\S)/)) link.append(part, element("wbr"));
  return link;
}

function address(place, id) {
  return "#" + new URLSearchParams({ sample: id, task: place });
}

function asked(prompt) {
  return prompt === null ? element("span", "soft", "not available") : textBlock(prompt);
}

function answerCell(cell, label, prompt) {
  const made = element("td");
  made.dataset.label = label;
  const [response, prediction, judged] = cell;
  if (prompt !== undefined) {
    const block = element("div", "asked");
    block.append(element("span", "chips", "asked:"), asked(prompt));
    made.append(block);
  }
  made.append(verdict(cell), element("br"), textBlock(response));
  if (judged !== FAILED && judged !== NOT_ASKED && prediction && prediction.trim() !== response.trim()) {
    made.append(element("span", "chips text", "read as: " + prediction));
  }
  return made;
}

function rowOf(row, data, names, place) {
  const [id, groups, image, prompt, reference, , cells] = row;
  const made = element("tr");
  const head = element("th", "", undefined);
  head.scope = "row";
  const name = element("span");
  name.append(nameBlock(id, address(place, id)));
  head.append(name);
  if (groups.length) head.append(element("span", "chips text", groups.map((g) => data.groups[g]).join(", ")));
  const picture = element("td");
  picture.dataset.label = "Image";
  const source = data.images[image];
  if (source) {
    const img = element("img");
    img.src = source;
    img.alt = "Image of sample " + id;
    picture.append(img);
  } else {
    picture.append(element("span", "soft", image < 0 && prompt !== null ? "none" : "not shown"));
  }
  const question = element("td");
  question.dataset.label = "Prompt";
  const differ = Array.isArray(prompt);
  question.append(differ ? element("span", "soft", "not the same: see the answers") : asked(prompt));
  const wanted = element("td");
  wanted.dataset.label = "Reference";
  wanted.append(textBlock(reference));
  const answers = cells.map((cell, n) => answerCell(cell, names[n], differ ? prompt[n] : undefined));
  made.append(head, picture, question, wanted, ...answers);
  return made;
}

function matches(row, query, wantedVerdict, group) {
  const [id, groups, , prompt, reference, gap, cells] = row;
  if (group !== "" && !groups.includes(Number(group))) return false;
  if (wantedVerdict === "apart" && !(gap > 0)) return false;
  if (wantedVerdict === "wrong" && !cells.some((cell) => cell[2] === WRONG)) return false;
  if (wantedVerdict === "right" && !cells.every((cell) => cell[2] === RIGHT)) return false;
  if (wantedVerdict === "failed" && !cells.some((cell) => [FAILED, NOT_ASKED].includes(cell[2]))) return false;
  if (!query) return true;
  const prompts = [prompt].flat().map((text) => text ?? "");
  const texts = [id, ...prompts, reference, ...cells.flatMap((cell) => [cell[0], cell[1]])];
  return texts.some((text) => text.toLowerCase().includes(query));
}

function score([, , judged, figure]) {
  if (judged === RIGHT) return 100;
  if (judged === FIGURE) return figure ?? Infinity;
  return judged === WRONG ? 0 : -1;
}

function mean(row) {
  const asked = row[6].filter((cell) => cell[2] !== MISSING);
  return asked.reduce((sum, cell) => sum + score(cell), 0) / asked.length;
}

const ORDERS = {
  data: (rows) => rows,
  gap: (rows) => rows.toSorted((a, b) => b[5] - a[5]),
  worst: (rows) => rows.toSorted((a, b) => mean(a) - mean(b)),
};

async function start(browser) {
  const find = (name) => browser.querySelector("." + name);
  const names = find("names").textContent.split(" ");
  const data = await unpack(find("packed").textContent);
  find("packed").remove();
  const [query, verdictChoice, group, order, size, page] =
    ["query", "verdict", "group", "order", "size", "page"].map(find);
  data.groups.forEach((name, place) => {
    const option = element("option", "", name);
    option.value = place;
    group.append(option);
  });
  let shown = [];

  function render(move = 0) {
    const rows = Number(size.value);
    const pages = Math.max(1, Math.ceil(shown.length / rows));
    const number = Math.min(pages, Math.max(1, (Number(page.value) || 1) + move));
    page.value = number;
    page.max = pages;
    find("pages").textContent = pages;
    const from = (number - 1) * rows;
    const part = shown.slice(from, from + rows);
    const made = part.map((row) => rowOf(row, data, names, browser.dataset.place));
    find("samples").tBodies[0].replaceChildren(...made);
    const range = part.length ? `${from + 1} to ${from + part.length} of ` : "";
    const all = shown.length === data.rows.length ? "samples" : `samples, of ${data.rows.length} in all`;
    find("status").textContent = `${range}${shown.length} ${all}`;
    find("previous").disabled = find("first-page").disabled = number === 1;
    find("next").disabled = find("last-page").disabled = number === pages;
  }

  function select() {
    const wanted = query.value.trim().toLowerCase();
    const found = data.rows.filter((row) => matches(row, wanted, verdictChoice.value, group.value));
    shown = ORDERS[order.value](found);
    page.value = 1;
    render();
  }

  query.addEventListener("input", select);
  for (const control of [verdictChoice, group, order]) control.addEventListener("change", select);
  size.addEventListener("change", () => { page.value = 1; render(); });
  page.addEventListener("change", () => render());
  find("previous").addEventListener("click", () => render(-1));
  find("next").addEventListener("click", () => render(1));
  find("first-page").addEventListener("click", () => render(-Infinity));
  find("last-page").addEventListener("click", () => render(Infinity));
  find("samples").classList.toggle("differ", data.rows.some((row) => Array.isArray(row[3])));
  select();
  browser.dataset.ready = "true";

  // Shows one sample among its neighbours; returns whether it is here.
  return function show(id) {
    if (!data.rows.some((row) => row[0] === id)) return false;
    let at = shown.findIndex((row) => row[0] === id);
    if (at < 0) {
      query.value = group.value = "";
      verdictChoice.value = "all";
      select();
      at = shown.findIndex((row) => row[0] === id);
    }
    page.value = 1 + Math.floor(at / Number(size.value));
    render();
    const row = find("samples").tBodies[0].rows[at % Number(size.value)];
    row.classList.add("linked");
    row.scrollIntoView({ block: "center" });
    row.querySelector("a").focus({ preventScroll: true });
    return true;
  };
}

// #sample=ID&task=TASK/SPLIT is a link to one sample; without a task it is looked for in all.
function follow(browsers) {
  const given = new URLSearchParams(location.hash.slice(1));
  const id = given.get("sample");
  const place = given.get("task");
  const wanted = browsers.filter(({ name }) => place === null || name === place);
  const missing = id !== null && !wanted.some(({ show }) => show(id));
  const note = document.querySelector(".no-sample");
  note.hidden = !missing;
  note.textContent = missing ? visible(`There is no sample ${id}${place ? " of " + place : ""} here.`) : "";
}

async function startAll() {
  const browsers = [];
  for (const browser of document.querySelectorAll(".browser")) {
    try {
      browsers.push({ name: browser.dataset.place, show: await start(browser) });
    } catch (error) {
      browser.querySelector(".status").textContent = "The samples cannot be shown: " + error.message;
    }
  }
  follow(browsers);
  window.addEventListener("hashchange", () => follow(browsers));
}

startAll();
