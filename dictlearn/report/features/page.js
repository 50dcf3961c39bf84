"use strict";
const ways = { ArrowLeft: "before", ArrowRight: "after", u: "up", Escape: "up" };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const link = document.getElementById(ways[event.key]);
  if (link) location.href = link.href;
});

/* An active token says what the latent adds to logits there: its activation times what it adds at 1. */
const pushed = JSON.parse(document.querySelector("main").dataset.pushed || "null");
addEventListener("mouseover", ({ target }) => {
  const cell = target.closest?.(".text [title]");
  if (!pushed || !cell || cell.title.includes("\n")) return;
  const val = parseFloat(cell.title);
  const named = (side) => side.map(([text, one]) => `${text.trim() || "·"} ${(val * one).toFixed(2).replace("-", "−")}`).join(", ");
  cell.title += `\nraises ${named(pushed[0])}\nlowers ${named(pushed[1])}`;
});
