"use strict";
const HEIGHT = 34; // of a row, as in features.css
const SPARE = 12; // rows drawn above and below the visible ones
const data = JSON.parse(document.getElementById("data").textContent);
const box = document.getElementById("rows");
const body = document.getElementById("body");
const input = document.getElementById("search");
const count = document.getElementById("count");
const heads = [...document.querySelectorAll("thead button")];
const texts = data.columns.filter(([, kind]) => kind === "words").map(([key]) => data.values[key]);
const state = { sort: "index", down: false, query: "", chosen: 0 };
let order = Int32Array.from({ length: data.n }, (_, i) => i);
let sorted = order;
let haystack = null;

/* What each row is searched for. It is made before the first search, but not before the first picture. */
function collect() {
  haystack ??= Array.from({ length: data.n }, (_, i) =>
    texts.map((values) => values[i] ?? "").join("\n").toLowerCase().replaceAll(" ", "·"));
}

const compare = (values, sign) => (a, b) => {
  const [x, y] = [values[a], values[b]];
  if (x === null || y === null || x === y) return (x === null) - (y === null) || a - b;
  return sign * (x < y ? -1 : 1);
};

function sort() {
  const all = Int32Array.from({ length: data.n }, (_, i) => i);
  const values = data.values[state.sort];
  const sign = state.down ? -1 : 1;
  sorted = values ? all.sort(compare(values, sign)) : sign < 0 ? all.reverse() : all;
  for (const head of heads) {
    const own = head.dataset.key === state.sort;
    if (own) head.parentElement.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.parentElement.removeAttribute("aria-sort");
  }
}

function search() {
  const query = state.query.trim().toLowerCase().replaceAll(" ", "·");
  if (query) collect();
  const number = /^\d+$/.test(query) ? Number(query) : -1;
  order = query ? sorted.filter((i) => i === number || haystack[i].includes(query)) : sorted;
  if (number >= 0 && number < data.n) order = Int32Array.of(number, ...order.filter((i) => i !== number));
  count.textContent = `${order.length.toLocaleString("en")} latent${order.length === 1 ? "" : "s"}`;
  state.chosen = 0;
  box.scrollTop = 0;
  draw();
}

function cell(row, className, content) {
  const found = row.insertCell();
  found.className = className;
  found.append(content);
}

function line(at) {
  const i = order[at];
  const row = document.createElement("tr");
  row.setAttribute("aria-rowindex", at + 2);
  if (at === state.chosen) row.className = "chosen";
  const link = document.createElement("a");
  link.href = `latents/${i}.html`;
  link.textContent = i;
  cell(row, "index number", link);
  for (const [key, kind] of data.columns) {
    const value = data.values[key][i];
    cell(row, `${key} ${kind}`, value === null ? "–" : key === "density" ? percent(value) : String(value));
  }
  return row;
}

const percent = (share) =>
  `${share && share < 1e-5 ? (100 * share).toExponential(1) : (100 * share).toPrecision(2)}\u202f%`;

function space(rows) {
  const row = document.createElement("tr");
  row.className = "space";
  row.style.height = `${rows * HEIGHT}px`;
  return row;
}

function draw() {
  const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - SPARE);
  const last = Math.min(order.length, first + Math.ceil(box.clientHeight / HEIGHT) + 2 * SPARE);
  const rows = [];
  for (let at = first; at < last; at++) rows.push(line(at));
  body.replaceChildren(space(first), ...rows, space(order.length - last));
}

function choose(at) {
  state.chosen = Math.min(Math.max(at, 0), order.length - 1);
  const top = state.chosen * HEIGHT;
  if (top < box.scrollTop) box.scrollTop = top;
  const bottom = top + 2 * HEIGHT; // the heading covers one row
  if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  draw();
}

function remember() {
  const kept = new URLSearchParams({ sort: state.sort, down: Number(state.down), q: state.query });
  history.replaceState(null, "", `#${kept}`);
}

for (const head of heads) {
  head.addEventListener("click", () => {
    const key = head.dataset.key;
    const number = head.parentElement.classList.contains("number") && key !== "index";
    state.down = state.sort === key ? !state.down : number;
    state.sort = key;
    sort();
    search();
    remember();
  });
}
input.addEventListener("input", () => {
  state.query = input.value;
  search();
  remember();
});
input.form.addEventListener("submit", (event) => event.preventDefault());
box.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", draw);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const page = Math.floor(box.clientHeight / HEIGHT) - 1;
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
  if (event.key === "/" && document.activeElement !== input) input.focus();
  else if (event.key === "Escape") input.value = state.query = "", search(), remember();
  else if (event.key in moves) choose(state.chosen + moves[event.key]);
  else if (event.key === "Enter" && order.length && !event.target.closest("a, button"))
    location.href = `latents/${order[state.chosen]}.html`;
  else return;
  event.preventDefault();
});

const hash = location.hash.slice(1);
if (/^\d+$/.test(hash)) {
  sort();
  draw();
  choose(Number(hash));
} else {
  const kept = new URLSearchParams(hash);
  if (heads.some((head) => head.dataset.key === kept.get("sort"))) state.sort = kept.get("sort");
  state.down = kept.get("down") === "1";
  state.query = input.value = kept.get("q") ?? "";
  sort();
  search();
}
setTimeout(collect, 100);
