/* The pictures, each with a sentence and a table that say the same. */

const charts = {};

/** Draw into a picture, whose own role and label stay; or change what is drawn: the last call wins. */
async function draw(id, spec, rows, signals, anew) {
  const drawn = charts[id];
  if (anew || !drawn) {
    charts[id] = vegaEmbed(at(id).firstElementChild, { ...spec, datasets: rows }, {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      ast: true, // expressions are interpreted: the page's policy allows no eval
      tooltip: { disableDefaultStyle: true },
    }).then((result) => result.view);
  }
  const pending = charts[id];
  const vega = await pending;
  if (charts[id] !== pending) return;
  for (const [name, values] of Object.entries(rows)) vega.data(name, values);
  for (const [name, value] of Object.entries(signals)) vega.signal(name, value);
  await vega.runAsync();
}

function showDistribution(anew) {
  const one = spread();
  if (!one) return;
  at("distribution").hidden = false;
  const changed = one.elements - one.unchanged;
  const amount = data.score.is_share ? share : score;
  const middle = one.median_score === null ? "an amount that is not finite" : `${amount(one.median_score)} or less`;
  const beyond = [];
  if (one.below) beyond.push(`${share(one.below, one.elements)} changed by less than 10⁻⁹`);
  if (one.beyond) beyond.push(`${share(one.beyond, one.elements)} by 100 or more${data.score.large && `, ${data.score.large}`}`);
  const text =
    `Of the ${count(one.elements)} weights of ${one.region}, ${share(one.unchanged, one.elements)} did not change` +
    (changed ? ` and half changed by ${middle}` : " at all") +
    `; in ${share(one.zero_base, one.elements)} the base is zero.` +
    (beyond.length ? ` Beyond the picture: ${beyond.join("; ")}.` : "");
  at("distribution-caption").textContent = text;
  // Where nothing is to be drawn, the region that was chosen before must not stay.
  at("distribution-chart").hidden = !one.chart;
  if (!one.chart) return;
  at("distribution-chart").setAttribute("aria-label", text);
  const [low, high] = [one.edges[0], one.edges[one.edges.length - 1]];
  const bins = one.counts.map((elements, number) => ({
    from: one.edges[number],
    to: one.edges[number + 1],
    elements,
    share: (100 * elements) / one.elements,
  }));
  const cuts = new Map(requested().map((cut) => [cut.percent, cut.threshold]));
  cuts.set(point()[0], point()[2]);
  const marks = [...cuts]
    .filter(([, threshold]) => threshold !== null && threshold > low && threshold < high)
    .map(([percent, threshold]) => ({ score: threshold, label: `${percent} %` }));
  draw("distribution-chart", one.chart, { bins, cuts: marks, chosen: chosenRange(low, high) }, {}, anew);
}

function chosenRange(low, high) {
  if (view().strategy === "random") return [];
  const inside = Math.min(Math.max(point()[2] ?? Infinity, low), high);
  const [from, to] = view().strategy === "top" ? [inside, high] : [low, inside];
  return from < to ? [{ from, to }] : [];
}

/** Sum cells up to the columns that the reader has chosen. */
function gather(parts) {
  const modules = state.columns === "modules";
  const found = new Map();
  for (const { cell, value, weight, elements } of parts) {
    const [row, kind, module] = data.cells[cell];
    const column = modules ? `${KINDS.indexOf(kind)}\n${module}` : `${KINDS.indexOf(kind)}`;
    const key = `${row}\n${column}`;
    const sum = found.get(key) || { row, column, total: 0, weight: 0, elements: 0 };
    sum.total += value === null ? NaN : value;
    sum.weight += weight;
    sum.elements += elements;
    found.set(key, sum);
  }
  const cells = [...found.values()].filter((one) => one.elements);
  const columns = [...new Set(cells.map((one) => one.column))].sort();
  // A digit and a line's end, then the module: its name may hold such ends too.
  const label = (column) => column.slice(2) || KINDS[column];
  const names = columns.map(label);
  const unique = columns.map((column, number) =>
    names.filter((name) => name === names[number]).length > 1
      ? `${names[number]} (${KINDS[column[0]]})`
      : names[number],
  );
  const rows = [...new Set(cells.map((one) => one.row))].sort((a, b) => a - b);
  return { cells, rows, columns: new Map(columns.map((column, number) => [column, unique[number]])) };
}

function heatmap(id, spec, parts, shown, scale, signals, anew) {
  const grid = gather(parts);
  // Both panels have the same rows and columns, so that one compares them line by line.
  const whole = gather(wholeGrid());
  const rows = grid.cells.map((one) => {
    const value = scale(one);
    return {
      row: data.rows[one.row],
      column: whole.columns.get(one.column),
      value: Number.isFinite(value) ? value : null,
      shown: shown(Number.isFinite(value) ? value : null),
      elements: one.elements,
    };
  });
  const labels = { x: [...whole.columns.values()], y: whole.rows.map((row) => data.rows[row]) };
  tabulate(at(`${id}-table`), labels, rows);
  const values = rows.map((row) => row.value).filter((value) => value !== null);
  const named = structuredClone(spec);
  named.width.step = labels.x.length > 5 ? 34 : 56;
  for (const axis of ["x", "y"]) named.encoding[axis].scale.domain = labels[axis];
  const colour = named.layer[1].encoding.color.scale;
  if (id === "mean") colour.domain = range(values.filter((one) => one > 0));
  else {
    // It ends at the largest share, which moves with the slider.
    Object.assign(colour, { domain: undefined, domainMin: 0, domainMax: { expr: "most" } });
    named.params = [{ name: "most", value: 100 }];
  }
  draw(`${id}-chart`, named, { cells: rows }, signals(values), anew);
  return rows;
}

/** Ends of a logarithmic scale. */
function range(values) {
  if (!values.length) return [0.1, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low < high ? [low, high] : [low / 2, high * 2];
}

function tabulate(place, labels, rows) {
  const found = new Map(rows.map((row) => [`${row.row}\n${row.column}`, row.shown]));
  const head = ["layer", ...labels.x].map((label) => make("th", { scope: "col" }, label));
  const body = labels.y.map((row) =>
    make("tr", {}, make("th", { scope: "row" }, row), ...labels.x.map((column) => make("td", {}, found.get(`${row}\n${column}`) ?? "–"))),
  );
  place.replaceChildren(
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)),
  );
}

const place = (row) => `${row.column} ${/^\d/.test(row.row) ? `of layer ${row.row}` : `(${row.row})`}`;

/** Say which cells stand out. */
function compare(rows, verb) {
  const known = rows.filter((row) => row.value !== null).sort((a, b) => b.value - a.value);
  if (!known.length) return "";
  const [most, least] = [known[0], known[known.length - 1]];
  if (most.value === least.value) return `${verb} evenly: ${most.shown} everywhere.`;
  return `Most in ${place(most)}: ${most.shown}; least in ${place(least)}: ${least.shown}.`;
}

const wholeGrid = () =>
  data.cells.map(([, , , elements, mean], cell) => ({
    cell, value: mean === null ? null : mean * elements, weight: elements, elements,
  }));

function showMeans() {
  if (!data.cells.length) {
    at("layers").replaceChildren(make("p", { class: "note" }, `${count(data.rows.length)} layers are too many for a picture: the table of tensors names them.`));
    return;
  }
  const rows = heatmap("mean", data.charts.mean, wholeGrid(), score, (one) => one.total / one.weight, () => ({}), true);
  const text = `Mean ${data.score.label} of each layer’s weights, on a logarithmic scale of colours; grey: none. ${compare(rows, "Changed")}`;
  at("mean-caption").textContent = text;
  at("mean-chart").setAttribute("aria-label", text);
}

function showRestored(anew) {
  if (!data.cells.length) return;
  const one = view();
  const parts = one.cells.map((cell, number) => ({
    cell, value: one.restored[number][state.point], weight: one.ranked[number], elements: one.ranked[number],
  }));
  const scale = (sum) => (100 * sum.total) / sum.weight;
  const most = (values) => ({ most: Math.max(...values, 1e-9) });
  const rows = heatmap("restored", data.charts.restored, parts, (value) => share(value / 100), scale, most, anew);
  const text = `Share of each layer’s weights that is restored. ${compare(rows, "Restored")}`;
  at("restored-heading").textContent = `What is restored at ${point()[0]} %`;
  at("restored-caption").textContent = text;
  at("restored-chart").setAttribute("aria-label", text);
}

function startColumns() {
  at("restored").hidden = !views.length;
  if (!data.cells.some(([, , module]) => module)) return;
  at("columns").hidden = false;
  at("columns").addEventListener("change", (event) => {
    state.columns = event.target.value;
    showMeans();
    if (views.length) showRestored(true);
  });
}
