/* What can be restored: the counts behind the slider, and where it stands. */

const state = { view: 0, point: 0, columns: "kinds" };

/** Read rows of counts: steps of seven bits a byte, the sign lowest; see `pack` in document.py. */
function unpack(text, rows, columns) {
  const codes = atob(text);
  let place = 0;
  return Array.from({ length: rows }, () => {
    let sum = 0;
    return Array.from({ length: columns }, () => {
      let code = 0;
      for (let unit = 1; ; unit *= 128) {
        const byte = codes.charCodeAt(place++);
        code += (byte % 128) * unit;
        if (byte < 128) break;
      }
      return (sum += code % 2 ? -(code + 1) / 2 : code / 2);
    });
  });
}

/** One cut: the model's own, that its run has made, or a profile's where there is no sweep. */
function viewOfCut(cut, number) {
  const own = data.origin === "profile" ? "" : "this model: ";
  const cells = data.cells.map((_, index) => index).filter((index) => data.cells[index][5][number]);
  return {
    label: `${own}${ORDER[cut.strategy]} ${cut.percent} % of ${cut.region}`,
    region: cut.region,
    strategy: cut.strategy,
    elements: cut.region_elements,
    points: [[cut.percent, cut.selected_elements, cut.threshold, cut.exact]],
    cells,
    ranked: cells.map((index) => data.cells[index][5][number]),
    restored: cells.map((index) => [data.cells[index][6][number]]),
  };
}

function viewOfSweep(sweep) {
  const restored = unpack(sweep.restored, sweep.cells.length, sweep.points.length);
  return { ...sweep, restored, label: `${ORDER[sweep.strategy]} weights of ${sweep.region}` };
}

const pointAt = (view, percent) => view.points.findIndex((point) => point[0] === percent);

/** Sweeps; before them what the run itself has done, where no point says the same. */
function findViews() {
  const sweeps = data.sweeps.map(viewOfSweep);
  const own = data.cuts.map(viewOfCut).filter((view, number) => {
    if (!sweeps.length) return true;
    const cut = data.cuts[number];
    const same = sweeps.find((one) => one.region === cut.region && one.strategy === cut.strategy);
    const point = same && same.points[pointAt(same, cut.percent)];
    return data.origin !== "profile" && !(point && point[3]);
  });
  return [...own, ...sweeps];
}

const views = findViews();
const view = () => views[state.view];
const point = () => view().points[state.point];
const requested = () =>
  data.cuts.filter((cut) => cut.region === view().region && cut.strategy === view().strategy);
const spread = () => data.distributions.find((one) => !views.length || one.region === view().region);

/** Say where a cut lies; a threshold that is infinite, or no number, is null in JSON. */
function describeThreshold(strategy, threshold, exact) {
  const sign = strategy === "top" ? "≥" : "≤";
  const value = threshold === null ? "not finite" : `${sign} ${trim(threshold.toPrecision(6))}`;
  return `${data.score.label} ${value}${exact ? "" : " (approximate)"}`;
}

function describeStop() {
  const [percent, selected, threshold, exact] = point();
  const head = `${ORDER[view().strategy]} ${percent} %: ${count(selected)} of ${count(view().elements)} weights`;
  if (view().strategy === "random") return `${head}, chosen by a hash of name and index`;
  return `${head}, ${describeThreshold(view().strategy, threshold, exact)}`;
}
