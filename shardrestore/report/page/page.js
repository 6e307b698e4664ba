/* The page: its header and figures, its controls, and what was done. */

const nameOf = (input) =>
  input.repository || (input.path || "?").split(/[\\/]/).filter(Boolean).pop() || "?";

function showHeader() {
  const { base, target } = data.inputs;
  const restored = data.origin !== "profile";
  at("kind").textContent = { profile: "A profile", run: "A restored model", model: "A restored model" }[data.origin];
  at("heading").textContent = restored
    ? `What was restored in ${nameOf(target)}`
    : `What fine-tuning changed in ${nameOf(target)}`;
  at("lede").textContent =
    `Every weight of the fine-tuned model ${nameOf(target)} is compared with that of its base, ` +
    `${nameOf(base)}. Its ${data.score.label} is ${data.score.definition}.`;
  at("notes").append(...data.notes.map((note) => make("p", { class: "note" }, note)));
  at("footer").textContent = `Written by ${data.generator}. This file is complete: it loads nothing.`;
}

function showFigures() {
  const one = spread();
  const of = one ? `weights in ${one.region}` : "weights in the region";
  const elements = one ? one.elements : data.elements;
  const unchanged = one ? one.unchanged / one.elements : data.unchanged_share;
  const zero = one ? one.zero_base / one.elements : data.zero_base_share;
  const figures = [
    ["elements", of, count(elements)],
    ["unchanged", "unchanged", share(unchanged), "same bits, or no difference left"],
    ["zero-base", "base weight is zero", share(zero), data.score.zero_base],
  ];
  if (one) figures.push(["median", "median change", score(one.median_score), `mean ${score(one.mean_score)}`]);
  if (views.length) {
    const [percent, selected] = point();
    figures.push(["selected", `restored at ${percent} %`, count(selected), share(selected, view().elements)]);
  }
  at("figures").replaceChildren(
    ...figures.map(([key, label, value, more]) => {
      const parts = [make("dt", {}, label), make("dd", { "data-figure": key }, value)];
      return make("div", {}, ...parts, ...(more ? [make("dd", { class: "more" }, more)] : []));
    }),
  );
}

// Controls

function startControls() {
  if (!views.length) return;
  at("controls").hidden = false;
  at("view").append(...views.map((one, number) => make("option", { value: number }, one.label)));
  at("view-field").hidden = views.length < 2;
  at("view").addEventListener("change", () => choose(Number(at("view").value)));
  at("percent").addEventListener("input", () => {
    state.point = Number(at("percent").value);
    showStop();
  });
  choose(0);
}

function choose(number) {
  state.view = number;
  const wanted = requested()[0] || data.cuts[0] || { percent: 10 };
  state.point = Math.max(pointAt(view(), wanted.percent), 0);
  const slider = at("percent");
  slider.max = view().points.length - 1;
  slider.disabled = view().points.length < 2;
  slider.parentElement.hidden = slider.disabled;
  const percents = requested().map((cut) => cut.percent);
  at("jumps").replaceChildren(
    ...(percents.length > 1 && !slider.disabled ? percents : []).map((percent) => {
      const button = make("button", { type: "button" }, `${percent} %`);
      button.addEventListener("click", () => {
        state.point = pointAt(view(), percent);
        showStop();
      });
      return button;
    }),
  );
  showStop({ anew: true });
}

function showStop({ anew = false } = {}) {
  const shown = `${point()[0]} %`;
  at("percent").value = state.point;
  at("percent").setAttribute("aria-valuetext", shown);
  at("percent-shown").textContent = shown;
  at("answer").textContent = `Restoring ${view().strategy === "random" ? "a" : "the"} ${describeStop()}.`;
  showFigures();
  showDistribution(anew);
  showRestored(anew);
}

// What was done

function describeInput(input) {
  const version = [input.revision, input.commit && `commit ${input.commit}`].filter(Boolean).join(", ");
  const where = input.repository ? `${input.repository}${version ? ` (${version})` : ""}` : input.path || "?";
  return `${where} · ${count(input.files)} ${input.files === 1 ? "file" : "files"}, ${bytes(input.bytes)}`;
}

function startFacts() {
  const lists = [
    [
      ...Object.entries(data.inputs).map(([role, input]) => [role, describeInput(input)]),
      [{ profile: "profile", run: "output", model: "model" }[data.origin], data.source],
      ["scored", `${count(data.elements)} weights of ${count(data.tensor_count)} tensors`],
      ...(data.unpaired ? [["not scored", `${count(data.unpaired)} tensors: show --json says why`]] : []),
      ...(data.nonfinite_weights ? [["not finite", `${count(data.nonfinite_weights)} weights are NaN or infinite`]] : []),
      ...data.cuts.map((cut) => ["cut", describeCut(cut)]),
    ],
    Object.entries(data.options)
      .filter(([, value]) => value !== null && value !== false && !(Array.isArray(value) && !value.length))
      .map(([name, value]) => [name.replaceAll("_", " "), Array.isArray(value) ? value.join(", ") : String(value)]),
  ];
  if (data.costs) {
    const { seconds, scan_seconds: scan, restore_seconds: restore } = data.costs;
    lists.push([
      ["time", `${seconds.toFixed(2)} s so far: scan ${scan.toFixed(2)}, restore ${restore.toFixed(2)}`],
      ["read", bytes(data.costs.read_bytes)],
      ["written", `${bytes(data.costs.written_bytes)} of weights`],
      ["peak memory", `${memory(data.costs.peak_rss_bytes)} of ${memory(data.costs.projected_bytes)} planned`],
      ["device", data.costs.device],
      ["workers", count(data.costs.workers)],
    ]);
  }
  at("facts").append(
    ...lists.filter((list) => list.length).map((list) =>
      make("dl", {}, ...list.flatMap(([label, text]) => [make("dt", {}, label), make("dd", {}, text)])),
    ),
  );
}

function describeCut(cut) {
  const threshold = cut.strategy === "random" ? "" : `, ${describeThreshold(cut.strategy, cut.threshold, cut.exact)}`;
  return `${ORDER[cut.strategy]} ${cut.percent} % of ${cut.region}: ${count(cut.selected_elements)} of ${count(cut.region_elements)} weights${threshold}`;
}

showHeader();
startColumns();
showMeans();
startControls();
if (!views.length) showFigures();
startTable();
startFacts();
