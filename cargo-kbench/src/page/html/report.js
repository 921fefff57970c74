// One filter decides which variants are shown, in every plot and in the table. The data of a variant is a column entry at its index.
const data = JSON.parse(document.getElementById("data").textContent);
const variants = Array.from({ length: data.fate.length }, (_, index) => index);
const byId = (id) => document.getElementById(id);

// Four digits in the unit that suits, as the terminal shows them.
function time(ns) {
  const [value, unit] = ns < 1e3 ? [ns, "ns"] : ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value.toFixed(value < 10 ? 3 : value < 100 ? 2 : 1)} ${unit}`;
}

function shown(value) {
  if (value === null) return "";
  return data.timed ? time(value) : value.toPrecision(4);
}

const toggleValue = (toggle, index) => {
  const level = toggle.levels[index];
  return level < 0 ? "" : toggle.values[level];
};

function label(index) {
  const toggles = data.toggles.map((toggle) => `${toggle.name}=${toggleValue(toggle, index)}`).join(" ");
  return data.source[index] ? `${toggles} of ${data.source[index]}` : toggles;
}

// Why a variant is out, or its value.
function story(index) {
  if (data.fate[index] === 2) return `${data.gates[data.gate[index]]}/${data.reasons[data.reason[index]]}: ${data.message[index]}`;
  return data.fate[index] === 1 ? `about ${shown(data.value[index])}, stopped early` : shown(data.value[index]);
}

// --- The filter ---
const ranked = variants.filter((index) => data.value[index] !== null).sort((a, b) => data.value[a] - data.value[b]);
const rank = new Map(ranked.map((index, at) => [index, at]));
const filter = { top: 100, fate: "", values: data.toggles.map(() => "") };
let visible = variants;

function passes(index) {
  if (filter.top < 100 && !(rank.get(index) < Math.max(1, Math.ceil((ranked.length * filter.top) / 100)))) return false;
  if (filter.fate !== "" && data.fate[index] !== Number(filter.fate)) return false;
  return data.toggles.every((toggle, at) => filter.values[at] === "" || toggle.levels[index] === Number(filter.values[at]));
}

const marks = new Map();
for (const [name, indices] of Object.entries(data.marks)) {
  byId(`plot-${name}`).querySelectorAll(".m").forEach((mark, at) => {
    const index = indices[at];
    mark.dataset.i = index;
    if (!marks.has(index)) marks.set(index, []);
    marks.get(index).push(mark);
  });
}

function apply() {
  visible = variants.filter(passes);
  const kept = new Set(visible);
  for (const [index, of] of marks) for (const mark of of) mark.classList.toggle("out", !kept.has(index));
  byId("count").textContent = `${visible.length} of ${variants.length} variants`;
  page = 0;
  sort();
}

function choice(name, options, change) {
  const select = element("select", { onchange: (event) => { change(event.target.value); apply(); } });
  select.append(element("option", { value: "" }, "all"), ...options.map(([value, text]) => element("option", { value }, text)));
  return element("label", {}, name, select);
}

function buildFilter() {
  const form = byId("filter");
  const top = element("input", { type: "range", min: 1, max: 100, value: 100, "aria-label": "Fastest variants, per cent" });
  const said = element("span", {}, "all");
  const showTop = () => { filter.top = Number(top.value); said.textContent = filter.top === 100 ? "all" : `${filter.top} %`; };
  top.addEventListener("input", () => { showTop(); apply(); });
  form.append(element("label", {}, element("span", {}, "fastest ", said), top));
  form.append(choice("outcome", [["0", "measured"], ["1", "stopped early"], ["2", "rejected"]], (value) => { filter.fate = value; }));
  data.toggles.forEach((toggle, at) => {
    if (toggle.values.length < 2) return;
    form.append(choice(toggle.name, toggle.values.map((value, level) => [String(level), value]), (value) => { filter.values[at] = value; }));
  });
  const reset = () => {
    form.reset();
    Object.assign(filter, { fate: "", values: data.toggles.map(() => "") });
    showTop();
    apply();
  };
  form.append(element("button", { type: "button", id: "show-all", onclick: reset }, "Reset"), element("output", { id: "count", "aria-live": "polite" }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}

// --- The table of variants ---
const gateCell = (gate) => (index) => {
  const failed = data.gate[index];
  if (failed === gate) return element("span", { class: "fail" }, data.reasons[data.reason[index]]);
  const passed = failed < 0 ? gate <= data.passed : gate < failed;
  return passed ? element("span", { class: "pass" }, "pass") : element("span", { class: "none", title: "not judged" }, "–");
};
const gateOrder = (gate) => (index) => (data.gate[index] === gate ? 2 : data.gate[index] >= 0 && data.gate[index] < gate ? 1 : 0);
const columns = [
  { name: "#", number: true, key: (index) => index, cell: (index) => String(index + 1) },
  ...data.toggles.map((toggle) => ({ name: toggle.name, number: true, key: (index) => toggle.levels[index], cell: (index) => toggleValue(toggle, index) })),
  ...(data.source.some(Boolean) ? [{ name: "source", key: (index) => data.source[index] || "", cell: (index) => data.source[index] || "" }] : []),
  { name: data.objective, number: true, key: (index) => data.value[index], cell: (index) => (data.fate[index] === 1 ? `≈ ${shown(data.value[index])}` : shown(data.value[index])) },
  ...data.gates.map((name, gate) => ({ name, key: gateOrder(gate), cell: gateCell(gate) })),
  ...(data.message.some(Boolean) || data.twin.some((twin) => twin >= 0) ? [{ name: "message", key: (index) => data.message[index] || "", cell: (index) => data.message[index] || (data.twin[index] >= 0 ? `same code as #${data.twin[index] + 1}` : "") }] : []),
  ...data.resources.map((resource) => ({ name: resource.name, number: true, key: (index) => resource.values[index], cell: (index) => (resource.values[index] === null ? "" : String(resource.values[index])) })),
];
const SIZE = 25;
let page = 0;
let order = { column: columns.findIndex((column) => column.name === data.objective), down: false };

function sort() {
  const { key } = columns[order.column];
  const keys = new Map(visible.map((index) => [index, key(index)]));
  visible = [...visible].sort((a, b) => compare(keys.get(a), keys.get(b), order.down) || a - b);
  show();
}

function show() {
  const rows = visible.slice(page * SIZE, (page + 1) * SIZE).map((index) => element("tr", { "data-i": index },
    ...columns.map((column) => element("td", { class: column.name === "message" ? "message" : column.number ? "n" : null }, column.cell(index)))));
  byId("table").tBodies[0].replaceChildren(...rows);
  const last = Math.max(0, Math.ceil(visible.length / SIZE) - 1);
  const turn = (by) => () => { page += by; show(); };
  const from = visible.length === 0 ? 0 : page * SIZE + 1;
  byId("pages").replaceChildren(
    element("button", { type: "button", disabled: page === 0, onclick: turn(-1) }, "Previous"),
    element("span", { "aria-live": "polite" }, `${from} to ${Math.min(visible.length, (page + 1) * SIZE)} of ${visible.length}`),
    element("button", { type: "button", disabled: page >= last, onclick: turn(1) }, "Next"));
}

function buildTable() {
  const heads = columns.map((column, at) => {
    const head = element("th", { scope: "col", class: column.number ? "n" : null });
    head.append(element("button", { type: "button", onclick: () => {
      order = { column: at, down: order.column === at && !order.down };
      mark();
      page = 0;
      sort();
    } }, column.name));
    return head;
  });
  const mark = () => heads.forEach((head, at) => {
    if (at === order.column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  mark();
  byId("table").append(element("caption", { hidden: true }, "All variants"), element("thead", {}, element("tr", {}, ...heads)), element("tbody"));
}

// --- Which variant is pointed at, in every plot and in the table ---
let pointed = null;
function point(index, event) {
  if (pointed !== null) {
    for (const mark of marks.get(pointed) || []) mark.classList.remove("on");
    byId("table").querySelector(`tr[data-i="${pointed}"]`)?.classList.remove("on");
  }
  pointed = index;
  const tip = byId("tip");
  tip.hidden = index === null;
  if (index === null) return;
  for (const mark of marks.get(index) || []) mark.classList.add("on");
  byId("table").querySelector(`tr[data-i="${index}"]`)?.classList.add("on");
  tip.textContent = `#${index + 1} ${label(index)}: ${story(index)}`;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${event.clientY + 16 + height > innerHeight ? event.clientY - height - 8 : event.clientY + 16}px`;
}
document.addEventListener("pointerover", (event) => {
  const of = event.target.closest?.("[data-i]");
  if (of) point(Number(of.dataset.i), event);
  else if (pointed !== null) point(null);
});

// --- Plots can be saved ---
document.querySelectorAll("figure .save").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    const drawing = figure.querySelector("svg").cloneNode(true);
    drawing.querySelectorAll(".out").forEach((mark) => mark.remove());
    const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
    style.textContent = byId("ink").textContent;
    drawing.prepend(style);
    const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(drawing)], { type: "image/svg+xml" }));
    element("a", { href: url, download: `${figure.id.replace("plot-", "")}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
});

buildFilter();
buildTable();
apply();
