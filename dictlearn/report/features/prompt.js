"use strict";
const [form, text, by, said, tokens, caption, body] =
  ["form", "text", "by", "said", "tokens", "caption", "body"].map((id) => document.getElementById(id));
let cells = [];
let shownText = "";
let chosen = -1; // -1: the whole text
let peaks = []; // of each latent, the tokens on which it peaks, as the index has them

const parsed = async (path) =>
  new DOMParser().parseFromString(await (await fetch(path)).text(), "text/html");

async function asked(path) {
  const reply = await fetch(path);
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

async function learn() {
  peaks = JSON.parse((await parsed("index.html")).getElementById("data").textContent).values.peaks;
  draw();
}

/* Of each latent its largest value in the text, and the cell where it is. */
function whole() {
  const best = new Map();
  cells.forEach((cell, at) => cell.latents.forEach((one) => {
    if (!best.has(one.latent) || best.get(one.latent).value < one.value) best.set(one.latent, { ...one, at });
  }));
  return [...best.values()];
}

/* The effects of the chosen cell are computed when they are first asked for. */
async function weigh(cell) {
  const at = cells.indexOf(cell);
  said.textContent = "…";
  cell.effects = {};
  try {
    cell.effects = (await asked(`effects.json?text=${encodeURIComponent(shownText)}&at=${at}`)).effects;
    said.textContent = at === cells.length - 1 ? "No token follows the last one." : "";
  } catch (error) {
    said.textContent = error.message;
  }
  draw();
}

const effect = (one) => cells[one.at ?? chosen]?.effects?.[one.latent];
const orders = {
  value: (one) => one.value,
  share: (one) => one.share ?? 2,
  effect: (one) => Math.abs(effect(one) ?? 0),
};

function draw() {
  const [rows, size] = [chosen < 0 ? whole() : cells[chosen].latents, orders[by.value]];
  const shown = [...rows].sort((a, b) => size(b) - size(a) || b.value - a.value).slice(0, 50);
  caption.textContent = !cells.length ? "" : chosen < 0
    ? `The whole text: ${shown.length} latents. Choose a token to see its own${by.value === "effect" ? ", and their effects" : ""}.`
    : `Token “${cells[chosen].text}”: ${shown.length} latents.`;
  body.replaceChildren(...shown.map(line));
  [...tokens.children].forEach((button, at) => button.setAttribute("aria-pressed", at === chosen));
  if (by.value === "effect" && chosen >= 0 && !cells[chosen].effects) weigh(cells[chosen]);
}

const signed = (value) => value === undefined ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

function line(one) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `latents/${one.latent}.html`;
  link.textContent = one.latent;
  const share = one.share === null ? "never fired before" : `${(100 * one.share).toFixed(1)}\u202f%`;
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = "+";
  more.setAttribute("aria-label", `more of latent ${one.latent}`);
  more.addEventListener("click", () => unfold(row, more, one.latent));
  for (const [content, kind] of [[more, "more"], [link, ""], [one.value.toPrecision(3), "number"], [share, "number"], [signed(effect(one)), "number"], [peaks[one.latent] ?? "", "peaks"], [one.explanation ?? "", "explanation"]]) {
    const cell = row.insertCell();
    cell.className = kind;
    cell.append(content);
  }
  return row;
}

/* Under its row: the histogram, five logits on either side, and ten windows, from the latent's page. */
async function unfold(row, more, latent) {
  if (row.nextSibling?.className === "detail") row.nextSibling.remove();
  else {
    const page = await parsed(`latents/${latent}.html`);
    const panels = [...page.querySelectorAll(".panel")].filter((one) =>
      /^(Activations|Logits)/.test(one.querySelector("h2").textContent));
    const windows = page.querySelector("section:not(.panels-of)");
    for (const table of panels.flatMap((one) => [...one.querySelectorAll("tbody")]))
      [...table.rows].slice(5).forEach((extra) => extra.remove());
    windows && [...windows.querySelectorAll("li")].slice(10).forEach((extra) => extra.remove());
    const box = document.createElement("div");
    box.className = "panels-of";
    box.append(...panels);
    const under = document.createElement("tr");
    under.className = "detail";
    const cell = under.insertCell();
    cell.colSpan = row.cells.length;
    cell.append(box, ...(windows ? [windows] : []));
    row.after(under);
  }
  const open = row.nextSibling?.className === "detail";
  more.setAttribute("aria-expanded", open);
  more.textContent = open ? "−" : "+";
}

const largest = (cell) => Math.max(0, ...cell.latents.map((one) => one.value));

function button(cell, at, most) {
  const found = document.createElement("button");
  found.type = "button";
  found.textContent = cell.text;
  found.style.setProperty("--a", largest(cell) / most);
  found.addEventListener("click", () => { chosen = chosen === at ? -1 : at; draw(); });
  return found;
}

async function show() {
  said.textContent = "…";
  try {
    const typed = text.value;
    const found = await asked(`prompt.json?text=${encodeURIComponent(typed)}`);
    [cells, shownText, chosen, said.textContent] = [found.cells, typed, -1, ""];
    const most = Math.max(1e-9, ...cells.map(largest));
    tokens.replaceChildren(...cells.map((cell, at) => button(cell, at, most)));
    draw();
  } catch (error) {
    said.textContent = error.message;
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
text.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.ctrlKey) show(); });
by.addEventListener("change", draw);
addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.target === text || !cells.length) return;
  chosen = (chosen + step + cells.length + 1) % (cells.length + 1);
  if (chosen === cells.length) chosen = -1;
  draw();
});
text.value = new URLSearchParams(location.search).get("text") ?? "";
if (text.value) show();
learn();
