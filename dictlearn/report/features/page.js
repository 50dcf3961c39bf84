"use strict";
const ways = { ArrowLeft: "before", ArrowRight: "after", u: "up", Escape: "up" };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const link = document.getElementById(ways[event.key]);
  if (link) location.href = link.href;
});
