/* One graph: its chart, its pinned nodes and the detail of the node under the pointer or the focus. */
const slider = document.getElementById("threshold");
const count = document.getElementById("count");

class View {
  constructor(graph) {
    Object.assign(this, { graph, nodes: nodesOf(graph), pins: new Set(), groups: [], chosen: null, hovered: null });
    this.chart = html("div", { className: "chart" });
    this.pinned = html("div", { className: "pins" });
    this.detail = html("aside", { className: "detail" });
    this.detail.setAttribute("aria-label", "The chosen node");
    const { prompt, scores, n_active } = graph;
    const told = `next: ${graph.logits.map(visible).join(", ")} · replacement ${short(scores[0])}, completeness ${short(scores[1])} · ${n_active.toLocaleString("en")} active latents`;
    this.element = html("section", { className: "graph" }, ...(data.graphs.length > 1 ? [html("h2", { textContent: prompt })] : []),
      html("p", { className: "note", textContent: told }), html("div", {}, this.chart, this.pinned), this.detail);
    this.draw();
    for (const [name, own] of Object.entries(graph.groups)) this.group(name, own.map((i) => this.nodes[i]));
  }

  draw() {
    this.picture = svg("svg", { role: "group", "aria-label": `Graph of “${this.graph.prompt}”` });
    this.bands = svg("g");
    this.edges = svg("g", { "aria-hidden": "true" });
    const largest = Math.max(1e-9, ...this.nodes.map((node) => node.influence));
    for (const node of this.nodes) {
      const name = `${named(node, this.graph.interleaved)}, token ${node.position} ${node.word}, influence ${percent(node.influence)}`;
      node.element = svg("g", { role: "button", tabindex: -1, "aria-label": name }, svg("circle", { class: "hit", r: GAP / 2 }), svg("path", { d: outline(node, largest) }));
      node.element.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && this.hover(node));
      node.element.addEventListener("pointerleave", () => this.hover(null));
      node.element.addEventListener("focus", () => this.choose(node));
      node.element.addEventListener("click", () => { this.pin(node); this.choose(node); });
      node.element.addEventListener("keydown", (event) => this.key(event, node));
    }
    this.picture.append(this.bands, this.edges, ...this.nodes.map((node) => node.element));
    this.chart.append(this.picture);
  }

  /* Places everything anew, as wide as there is room. */
  fit() {
    const found = place(this.graph, this.nodes, this.chart.clientWidth);
    this.picture.setAttribute("width", found.width);
    this.picture.setAttribute("height", found.height);
    const top = this.graph.n_layers + 1;
    this.bands.replaceChildren(...found.bands.flatMap(({ row, y, height }) => {
      const name = svg("text", { x: 2, y: y + height / 2 + 4 });
      name.textContent = row === 0 ? "tokens" : row === top ? "logits" : row - 1;
      return [...(row % 2 ? [svg("rect", { class: "band", x: 0, y, width: found.width, height })] : []), name];
    }), ...this.graph.words.map((word, p) => {
      const text = svg("text", { x: found.starts[p] + found.widths[p] / 2, y: found.height - 10, "text-anchor": "middle" });
      const most = Math.max(2, Math.floor(found.widths[p] / 6.5));
      const whole = visible(word);
      text.textContent = whole.length > most ? `${whole.slice(0, most - 1)}…` : whole;
      text.append(svg("title"));
      text.lastChild.textContent = whole;
      return text;
    }));
    for (const node of this.nodes) node.element.setAttribute("transform", `translate(${node.x} ${node.y})`);
    this.show();
    drawPins(this);
  }

  shown(node) {
    if (node.kind === "token" || node.kind === "logit" || this.pins.has(node)) return true;
    return slider.valueAsNumber >= data.threshold || node.before < slider.valueAsNumber;
  }

  show() {
    const active = this.hovered ?? this.chosen;
    const near = active && new Set([active, ...[...active.into, ...active.out].map((link) => link.node)]);
    for (const node of this.nodes) {
      const kinds = { far: near && !near.has(node), same: node.key && node.key === marked, pinned: this.pins.has(node), active: node === active };
      node.element.setAttribute("class", ["node", node.kind, ...Object.keys(kinds).filter((kind) => kinds[kind])].join(" "));
      node.element.setAttribute("visibility", this.shown(node) ? "visible" : "hidden");
      node.element.setAttribute("aria-pressed", this.pins.has(node));
    }
    const seen = this.nodes.filter((node) => this.shown(node));
    const entry = seen.includes(this.chosen) ? this.chosen : seen.at(-1);
    for (const node of this.nodes) node.element.setAttribute("tabindex", node === entry ? 0 : -1);
    this.edges.replaceChildren(...(active ? this.lines(active) : []));
    drawDetail(this, active);
  }

  lines(active) {
    const links = [...active.into.map((link) => [link.node, active, link.weight]), ...active.out.map((link) => [active, link.node, link.weight])];
    const seen = links.filter(([source, target]) => this.shown(source) && this.shown(target));
    const most = Math.max(1e-9, ...seen.map(([, , weight]) => Math.abs(weight)));
    return seen.map(([source, target, weight]) => {
      const [size, bend] = [Math.abs(weight) / most, (source.y + target.y) / 2];
      return svg("path", {
        class: weight < 0 ? "edge against" : "edge",
        d: `M${source.x} ${source.y}C${source.x} ${bend} ${target.x} ${bend} ${target.x} ${target.y}`,
        "stroke-width": 0.5 + 3 * size,
        "stroke-opacity": 0.15 + 0.75 * size,
      });
    });
  }

  hover(node) {
    this.hovered = node;
    mark(node ? node.key : this.chosen?.key);
  }

  choose(node, focus = false) {
    current = this;
    this.chosen = node;
    this.hovered = null;
    mark(node?.key);
    if (focus) node.element.focus();
  }

  pin(node) {
    current = this;
    const group = this.groups.find((one) => one.nodes.includes(node));
    if (group) group.nodes = group.nodes.filter((one) => one !== node);
    this.groups = this.groups.filter((one) => one.nodes.length);
    if (!this.pins.delete(node)) this.pins.add(node);
    this.changed();
  }

  /* Without nodes: those that are pinned and in no group. */
  group(name = `supernode ${this.groups.length + 1}`, nodes = boxesOf(this).filter((box) => box.alone).flatMap((box) => box.nodes)) {
    if (!nodes.length) return;
    nodes.forEach((node) => this.pins.add(node));
    this.groups.push({ name, nodes });
  }

  dissolve(group) {
    this.groups = this.groups.filter((one) => one !== group);
    this.changed();
  }

  clear() {
    if (this.chosen) {
      this.choose(null);
      return;
    }
    this.pins.clear();
    this.groups = [];
    this.changed();
  }

  changed() {
    this.show();
    drawPins(this);
    remember();
  }

  key(event, node) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") this.pin(node);
    else if (/^Arrow/.test(event.key)) this.towards(event.key.slice(5), node)?.element.focus();
    else return;
    event.preventDefault();
  }

  /* The next visible node: along its row by token, or the nearest one of the next row that has any. */
  towards(way, node) {
    const seen = this.nodes.filter((one) => this.shown(one));
    if (way === "Left" || way === "Right") {
      const row = seen.filter((one) => one.row === node.row);
      row.sort((a, b) => a.position - b.position || a.line - b.line || a.x - b.x);
      return row[row.indexOf(node) + (way === "Left" ? -1 : 1)];
    }
    const up = way === "Up";
    const rows = seen.map((one) => one.row).filter((row) => (up ? row > node.row : row < node.row));
    const row = up ? Math.min(...rows) : Math.max(...rows);
    const away = (one) => Math.abs(one.x - node.x);
    return seen.filter((one) => one.row === row).sort((a, b) => away(a) - away(b))[0];
  }
}

let marked = null; // the latent that is marked in all graphs
const views = data.graphs.map((graph) => new View(graph));
let current = views[0];

function mark(key) {
  marked = key ?? null;
  for (const view of views) view.show();
}

/* Threshold, pins and supernodes are kept in the address, so that a link opens what one sees. */
function remember() {
  const kept = views.map((view) => [[...view.pins].map((node) => node.id), view.groups.map(({ name, nodes }) => [name, ...nodes.map((node) => node.id)])]);
  history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify([slider.valueAsNumber, kept]))}`);
}

function recall() {
  let found;
  try { found = JSON.parse(decodeURIComponent(location.hash.slice(1))); } catch { return; }
  slider.value = found[0];
  views.forEach((view, at) => {
    const [pins, groups] = found[1]?.[at] ?? [[], []];
    const known = (ids) => ids.map((id) => view.nodes.find((node) => node.id === id)).filter(Boolean);
    Object.assign(view, { pins: new Set(known(pins)), groups: [] });
    for (const [name, ...ids] of groups) view.group(name, known(ids));
  });
}

function counted() {
  const shown = views.map((view) => view.nodes.filter((node) => view.shown(node)).length);
  count.textContent = `${percent(slider.valueAsNumber)}, ${shown.map((n) => n.toLocaleString("en")).join(" + ")} nodes`;
}

function compare() {
  if (!data.shared.length) return;
  document.getElementById("shared").hidden = false;
  const heads = ["layer", "latent", ...data.graphs.map((graph) => graph.name)];
  document.getElementById("heads").append(...heads.map((text, i) => html("th", { textContent: text, className: i > 1 ? "number" : "" })));
  document.getElementById("rows").append(...data.shared.map(([layer, latent, values]) => {
    const key = `${layer}.${latent}`;
    const about = data.about[key] ?? {};
    const name = `${Math.floor(latent / data.graphs[0].interleaved)}${about.label ? ` ${about.label}` : ""}`;
    const button = html("button", { type: "button", textContent: name });
    button.addEventListener("click", () => mark(key));
    return html("tr", {}, html("td", { textContent: layer }), html("td", {}, button), ...values.map((value) => html("td", { className: "number", textContent: value ? short(value) : "–" })));
  }));
}

slider.step = "any";
slider.max = slider.value = data.threshold;
slider.addEventListener("input", () => { views.forEach((view) => view.show()); counted(); remember(); });
document.getElementById("form").addEventListener("submit", (event) => event.preventDefault());
addEventListener("resize", () => views.forEach((view) => view.fit()));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=range])")) return;
  if (event.key === "g") { current.group(); current.changed(); }
  else if (event.key === "Escape") current.clear();
  else return;
  event.preventDefault();
});
document.getElementById("graphs").append(...views.map((view) => view.element));
recall();
views.forEach((view) => view.fit());
counted();
compare();
