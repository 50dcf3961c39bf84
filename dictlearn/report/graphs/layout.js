"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const GAP = 12; // between nodes of one layer and token
const LEFT = 46; // the names of the rows

function html(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥").trim() || "·";
const short = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}\u202f%`;

/* The nodes of a graph as objects that know their links. Rows: tokens 0, layer l in l + 1, logits on top. */
function nodesOf(graph) {
  const targets = graph.nodes.length - graph.logits.length;
  const nodes = graph.nodes.map(([id, kind, layer, position, index, value, influence, before], i) => {
    const row = kind === "token" ? 0 : kind === "logit" ? graph.n_layers + 1 : layer + 1;
    const key = kind === "latent" ? `${layer}.${index}` : null;
    const found = { i, id, kind, layer, position, index, value, influence, before, row, key, into: [], out: [] };
    found.about = (key && data.about[key]) || {};
    found.word = visible(graph.words[position]);
    found.text = graph.logits[i - targets];
    return found;
  });
  const [ends, starts, weights] = graph.links;
  weights.forEach((weight, i) => {
    nodes[ends[i]].into.push({ node: nodes[starts[i]], weight });
    nodes[starts[i]].out.push({ node: nodes[ends[i]], weight });
  });
  for (const node of nodes)
    for (const links of [node.into, node.out]) links.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return nodes;
}

/* What a node is called, in a few words. */
function named(node, interleaved = 1) {
  if (node.kind === "token") return `token “${node.word}”`;
  if (node.kind === "logit") return `logit “${visible(node.text)}”`;
  if (node.kind === "error") return `error of layer ${node.layer}`;
  return node.about.label ?? `latent ${Math.floor(node.index / interleaved)} of layer ${node.layer}`;
}

/* Gives every node its place. Columns are as wide as their fullest cell, or cells have several lines. */
function place(graph, nodes, room) {
  const cells = new Map();
  for (const node of nodes) {
    const key = `${node.row},${node.position}`;
    cells.set(key, [...(cells.get(key) ?? []), node]);
  }
  const cell = (row, p) => cells.get(`${row},${p}`) ?? [];
  const rows = Array.from({ length: graph.n_layers + 2 }, (_, row) => row);
  const most = graph.words.map((_, p) => Math.max(...rows.map((row) => cell(row, p).length)));
  const wide = (line) => most.map((n) => Math.max(28, 12 + GAP * Math.min(n, line)));
  const sum = (widths) => widths.reduce((a, b) => a + b, 0);
  let line = Math.max(3, ...most);
  while (line > 3 && sum(wide(line)) > room - LEFT) line--;
  const spare = Math.max(0, (room - LEFT - sum(wide(line))) / most.length);
  const widths = wide(line).map((width) => width + spare);
  const starts = widths.map((_, p) => LEFT + sum(widths.slice(0, p)));
  const fit = widths.map((width) => Math.max(1, Math.floor((width - 4) / GAP)));
  const bands = [];
  let y = 0;
  for (const row of [...rows].reverse()) {
    const lines = Math.max(1, ...most.map((_, p) => Math.ceil(cell(row, p).length / fit[p])));
    const height = lines * GAP + 10;
    most.forEach((_, p) => {
      const own = cell(row, p).sort((a, b) => b.influence - a.influence || a.i - b.i);
      own.forEach((node, i) => {
        const at = Math.floor(i / fit[p]);
        const n = Math.min(fit[p], own.length - at * fit[p]);
        node.line = at;
        node.x = starts[p] + widths[p] / 2 + GAP * ((i % fit[p]) - (n - 1) / 2);
        node.y = y + height / 2 + GAP * (at - (Math.ceil(own.length / fit[p]) - 1) / 2);
      });
    });
    bands.push({ row, y, height });
    y += height;
  }
  return { bands, starts, widths, height: y + 26, width: LEFT + sum(widths) };
}

/* Round: a latent. Diamond: an error. Square: a token or a logit. */
function outline(node, largest) {
  const share = node.kind === "logit" ? node.value : node.influence / largest;
  const r = 2.5 + 4.5 * Math.sqrt(Math.min(1, share));
  if (node.kind === "latent") return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
  if (node.kind === "error") return `M0 ${-r}L${r} 0L0 ${r}L${-r} 0Z`;
  return `M${-r} ${-r}H${r}V${r}H${-r}Z`;
}
