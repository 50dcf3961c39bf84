/* What is known of a node: its numbers, its label and windows, and its largest edges. */
const LINKS = 8;

function passage({ cells, fires, peak, val }, largest) {
  const shown = cells.map((text, i) => {
    if (!(i in fires)) return text.replaceAll("\n", "↵");
    const cell = html(i === peak ? "mark" : "span", { textContent: text.replaceAll("\n", "↵"), title: short(fires[i]) });
    cell.style.setProperty("--a", Math.min(1, Math.abs(fires[i]) / largest).toFixed(2));
    return cell;
  });
  return html("li", {}, html("span", { className: "value", textContent: short(val) }), html("span", { className: "text" }, ...shown));
}

function list(view, title, links) {
  const shown = links.filter(({ node }) => view.shown(node)).slice(0, LINKS);
  if (!shown.length) return [];
  const items = shown.map(({ node, weight }) => {
    const name = named(node, view.graph.interleaved);
    const where = node.kind === "latent" || node.kind === "error" ? ` · “${node.word}”` : "";
    const value = html("b", { textContent: short(weight), className: weight < 0 ? "against-text" : "" });
    const button = html("button", { type: "button", title: name }, html("span", { textContent: name + where }), value);
    button.addEventListener("click", () => view.choose(node, true));
    return html("li", {}, button);
  });
  return [html("div", {}, html("h4", { textContent: title }), html("ul", { className: "links" }, ...items))];
}

function numbers(view, node) {
  const parts = [`token ${node.position} “${node.word}”`];
  if (node.kind === "latent") {
    const number = Math.floor(node.index / view.graph.interleaved);
    parts.unshift(`layer ${node.layer}, latent ${number}`);
    parts.push(`activation ${short(node.value)}${node.about.largest ? ` of at most ${short(node.about.largest)}` : ""}`);
  }
  if (node.kind === "logit") parts.push(`probability ${percent(node.value)}`);
  else parts.push(`influence ${percent(node.influence)}`);
  if (node.about.density !== undefined) parts.push(`fires on ${percent(node.about.density)} of tokens`);
  return parts.join(" · ");
}

function drawDetail(view, node) {
  if (!node) {
    const told = `${view.nodes.filter((one) => view.shown(one)).length} nodes. Choose one to see what it is, what leads to it and what it leads to.`;
    view.detail.replaceChildren(html("p", { className: "note", textContent: told }));
    return;
  }
  const { label, score, raises, windows, largest } = node.about;
  const title = named(node, view.graph.interleaved);
  const parts = [html("h3", { textContent: title }), html("p", { className: "note", textContent: numbers(view, node) })];
  if (label && score !== null && score !== undefined) parts.push(html("p", { className: "note", textContent: `score of the label ${short(score)}` }));
  if (raises?.length) parts.push(html("p", { className: "note", textContent: `raises ${raises.map(visible).join(", ")}` }));
  if (windows?.length) {
    const most = largest || 1;
    parts.push(html("h4", { textContent: "largest activations" }), html("ol", { className: "passages" }, ...windows.map((one) => passage(one, most))));
  }
  parts.push(html("div", { className: "ends" }, ...list(view, "from", node.into), ...list(view, "to", node.out)));
  view.detail.replaceChildren(...parts);
}
