"use strict";
const [form, text, by, said, tokens, caption, body] =
  ["form", "text", "by", "said", "tokens", "caption", "body"].map((id) => document.getElementById(id));
let cells = [];
let chosen = -1; // -1: the whole text
let peaks = []; // of each latent, the tokens on which it peaks, as the index has them

async function learn() {
  const index = new DOMParser().parseFromString(await (await fetch("index.html")).text(), "text/html");
  peaks = JSON.parse(index.getElementById("data").textContent).values.peaks;
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

function draw() {
  const rows = chosen < 0 ? whole() : cells[chosen].latents;
  const shown = [...rows].sort((a, b) => (b[by.value] ?? 2) - (a[by.value] ?? 2)).slice(0, 50);
  caption.textContent = !cells.length ? "" : chosen < 0
    ? `The whole text: ${shown.length} latents. Choose a token to see its own.`
    : `Token “${cells[chosen].text}”: ${shown.length} latents.`;
  body.replaceChildren(...shown.map(line));
  [...tokens.children].forEach((button, at) => button.setAttribute("aria-pressed", at === chosen));
}

function line(one) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `latents/${one.latent}.html`;
  link.textContent = one.latent;
  const share = one.share === null ? "never fired before" : `${(100 * one.share).toFixed(1)}\u202f%`;
  for (const [content, kind] of [[link, ""], [one.value.toPrecision(3), "number"], [share, "number"], [peaks[one.latent] ?? "", "peaks"], [one.explanation ?? "", "explanation"]]) {
    const cell = row.insertCell();
    cell.className = kind;
    cell.append(content);
  }
  return row;
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
    const reply = await fetch(`prompt.json?text=${encodeURIComponent(text.value)}`);
    const found = await reply.json();
    if (!reply.ok) throw new Error(found.error);
    [cells, chosen, said.textContent] = [found.cells, -1, ""];
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
