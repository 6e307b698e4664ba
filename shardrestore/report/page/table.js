/* The table of tensors: sorted by a click, searched as one types. */

const ROWS = new Map(data.rows.map((label, number) => [label, number]));

const COLUMNS = [
  { label: "tensor", text: true, value: (row) => row[0] },
  { label: "layer", text: true, value: (row) => row[1], by: (row) => ROWS.get(row[1]) },
  { label: "kind", text: true, value: (row) => row[2] },
  { label: "weights", value: (row) => row[4], shown: count },
  { label: "mean change", value: (row) => row[5] ?? Infinity, shown: (value) => score(value === Infinity ? null : value) },
  { label: "unchanged", value: (row) => row[6], shown: share, skip: data.tensors.every((row) => row[6] === null) },
  ...data.cuts.map((cut, number) => ({
    label: `restored, ${cut.strategy} ${cut.percent} %${data.cuts.some((other) => other.region !== cut.region) ? ` of ${cut.region}` : ""}`,
    value: (row) => (row[7][number] === null || !row[4] ? null : row[7][number] / row[4]),
    shown: (value) => (value === null ? "–" : share(value)),
    title: (row) => (row[7][number] === null ? "outside the region" : `${count(row[7][number])} weights`),
  })),
].filter((column) => !column.skip);

function startTable() {
  const left = data.tensor_count - data.tensors.length;
  at("left-out").hidden = !left;
  at("left-out").textContent = `${count(data.tensor_count)} tensors are too many for one page: these are the ${count(data.tensors.length / 2)} most and the ${count(data.tensors.length / 2)} least changed, ${count(left)} between them are left out.`;
  const entries = data.tensors.map((row) => ({
    row,
    text: `${row[0]} ${row[1]} ${row[2]} ${row[3]}`.toLowerCase(),
    element: make("tr", {}, ...COLUMNS.map((column, number) => {
      const value = column.value(row);
      const attributes = column.text ? { class: number ? "text" : "text name" } : {};
      if (column.title) attributes.title = column.title(row);
      return make("td", attributes, column.shown ? column.shown(value) : value);
    })),
  }));
  const body = make("tbody", {}, ...entries.map((entry) => entry.element));
  const heads = COLUMNS.map((column) => {
    const button = make("button", { type: "button" }, column.label);
    const head = make("th", { scope: "col", ...(column.text ? { class: "text" } : {}) }, button);
    button.addEventListener("click", () => sort(column, head));
    return head;
  });
  const sort = (column, head) => {
    // Numbers begin with the largest, names with the first.
    const now = head.getAttribute("aria-sort");
    const up = now ? now === "descending" : Boolean(column.text);
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const by = column.by || column.value;
    const key = (entry) => by(entry.row) ?? -1;
    const order = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
    entries.sort((a, b) => (up ? order(a, b) : order(b, a)));
    body.append(...entries.map((entry) => entry.element));
  };
  heads[COLUMNS.findIndex((column) => column.label === "mean change")].setAttribute("aria-sort", "descending");
  at("table").append(
    make("caption", { class: "unseen" }, `Tensors, their mean ${data.score.label}, and what is restored in them`),
    make("thead", {}, make("tr", {}, ...heads)),
    body,
  );
  const search = () => {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { text, element } of entries) {
      element.hidden = !words.every((word) => text.includes(word));
      found += !element.hidden;
    }
    at("found").textContent = `${count(found)} of ${count(data.tensor_count)} tensors`;
  };
  at("search").addEventListener("input", search);
  search();
}
