
"use strict";
// Headers become buttons that sort. Rows without a whole figure in the column stay last.
for (const table of document.querySelectorAll("table.leaderboard")) {
  const body = table.tBodies[0];
  for (const header of table.querySelectorAll("th[data-position]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, body, header));
  }
}

function sort(table, body, header) {
  const before = header.getAttribute("aria-sort");
  const other = { ascending: "descending", descending: "ascending" };
  const direction = before ? other[before] : header.dataset.first;
  for (const sorted of table.querySelectorAll("th[aria-sort]")) sorted.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...body.rows].map((row) => {
    return { row, key: row.cells[Number(header.dataset.position)].dataset.value || null };
  });
  const figures = keyed.every(({ key }) => key === null || Number.isFinite(Number(key)));
  const compare = figures ? (x, y) => x - y : (x, y) => x.localeCompare(y, "en");
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * compare(a.key, b.key);
  });
  body.append(...keyed.map(({ row }) => row));
}
