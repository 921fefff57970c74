"use strict";
// Tables whose rows are in the page: each header becomes a button that sorts by `data-v`, or by the text.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// What has no value comes last, whichever way.
function compare(a, b, down) {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  const of = a < b ? -1 : a > b ? 1 : 0;
  return down ? -of : of;
}

function makeSortable(table) {
  const key = (row, at) => {
    const { v } = row.cells[at].dataset;
    return v === undefined ? row.cells[at].textContent : v === "" ? null : Number(v);
  };
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => compare(key(a, at), key(b, at), down)));
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
