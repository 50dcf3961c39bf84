/* The pinned nodes as boxes: a supernode, or a pinned node in none. */
function boxesOf(view) {
  const grouped = new Set(view.groups.flatMap((group) => group.nodes));
  const alone = [...view.pins].filter((node) => !grouped.has(node));
  return [...view.groups, ...alone.map((node) => ({ name: named(node, view.graph.interleaved), nodes: [node], alone: true }))];
}

/* The edge between two boxes is the sum of the edges between their nodes. */
function between(boxes) {
  const owner = new Map(boxes.flatMap((box) => box.nodes.map((node) => [node, box])));
  const found = [];
  for (const target of boxes) {
    const sums = new Map();
    for (const node of target.nodes)
      for (const { node: from, weight } of node.into)
        if (owner.has(from) && owner.get(from) !== target)
          sums.set(owner.get(from), (sums.get(owner.get(from)) ?? 0) + weight);
    for (const [source, weight] of sums) found.push({ source, target, weight });
  }
  return found;
}

const HIGH = 64; // from one row of boxes to the next

/* Places boxes in rows by their mean layer, from the logits down, and near their tokens within a row. */
function arrange(boxes, room, n_tokens) {
  const mean = (box, key) => box.nodes.reduce((sum, node) => sum + node[key], 0) / box.nodes.length;
  const rows = new Map();
  for (const box of boxes) {
    const row = Math.round(mean(box, "row"));
    rows.set(row, [...(rows.get(row) ?? []), box]);
  }
  const most = Math.max(1, Math.floor(room / 110));
  let y = 8;
  for (const row of [...rows.keys()].sort((a, b) => b - a)) {
    const own = rows.get(row).sort((a, b) => mean(a, "position") - mean(b, "position"));
    for (let start = 0; start < own.length; start += most, y += HIGH) {
      const line = own.slice(start, start + most);
      const cell = Math.min(188, room / line.length);
      line.forEach((box, i) => {
        const wanted = (room * (mean(box, "position") + 0.5)) / n_tokens;
        const [least, largest] = [cell * (i + 0.5), room - cell * (line.length - i - 0.5)];
        const after = i ? Math.max(least, line[i - 1].x + cell) : least;
        Object.assign(box, { width: cell - 8, x: Math.min(largest, Math.max(after, wanted)), y });
      });
    }
  }
  return y - HIGH + 44;
}

function lineOf({ source, target, weight }, most, room) {
  const [from, to] = [source.y + (source.y > target.y ? 0 : 32), target.y + (source.y > target.y ? 32 : 0)];
  const bend = (from + to) / 2;
  const past = Math.max(0, Math.abs(source.y - target.y) / HIGH - 1) * 40; // the boxes between
  const aside = Math.max(source.x, target.x) + past > room - 30 ? -past : past;
  const [start, end] = [source.x + aside, target.x + aside];
  const line = svg("path", {
    class: weight < 0 ? "edge against" : "edge",
    d: `M${source.x} ${from}C${start} ${bend} ${end} ${bend} ${target.x} ${to}`,
    "stroke-width": 1 + (5 * Math.abs(weight)) / most,
  });
  const middle = { x: (source.x + target.x) / 2 + 0.75 * aside + 4, y: bend + 4 };
  const told = svg("text", middle);
  told.textContent = short(weight);
  return [line, told];
}

function drawPins(view) {
  const boxes = boxesOf(view);
  const room = view.pinned.clientWidth;
  const height = boxes.length ? arrange(boxes, room, view.graph.words.length) : 0;
  const edges = between(boxes);
  const most = Math.max(1e-9, ...edges.map((edge) => Math.abs(edge.weight)));
  const lines = svg("svg", { "aria-hidden": "true" }, ...edges.flatMap((edge) => lineOf(edge, most, room)));
  view.pinned.style.height = `${height}px`;
  view.pinned.replaceChildren(lines, ...boxes.map((box) => boxOf(view, box)));
}

function boxOf(view, box) {
  const head = box.alone
    ? html("button", { type: "button", textContent: box.name, title: box.name })
    : html("input", { value: box.name, spellcheck: false, title: box.nodes.map((node) => named(node, view.graph.interleaved)).join("\n") });
  head.setAttribute("aria-label", box.alone ? box.name : `name of the supernode of ${box.nodes.length} nodes`);
  if (box.alone) head.addEventListener("click", () => view.choose(box.nodes[0]));
  else head.addEventListener("change", () => { box.name = head.value; remember(); });
  const drop = html("button", { type: "button", className: "drop", textContent: "×" });
  drop.setAttribute("aria-label", box.alone ? `unpin ${box.name}` : `dissolve ${box.name}`);
  drop.addEventListener("click", () => (box.alone ? view.pin(box.nodes[0]) : view.dissolve(box)));
  const made = html("div", { className: box.alone ? "box" : "box group" }, head, drop);
  Object.assign(made.style, { left: `${box.x - box.width / 2}px`, top: `${box.y}px`, width: `${box.width}px` });
  return made;
}
