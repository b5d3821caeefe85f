// A board: its rows sorted and filtered, and the plot of them. What is chosen stands in the address.

const PAGE_ROWS = 100;
const MODALITY = { a: "sound", v: "pictures", t: "text" };
const modalityText = (modality) => [...modality].map((letter) => MODALITY[letter] ?? letter).join(" + ");

function boardColumns(board) {
  const number = (key, head, text) => ({ key, head, text, number: true, falls: true });
  const metric = (name) => ({
    key: name,
    head: `${metricLabel(name)} ${arrow(name)}`,
    number: true,
    falls: DATA.metrics[name].better === "higher",
    text: (row) => valueNodes(name, row),
  });
  const [main, ...others] = board.metrics;
  return [
    { key: "rank", head: "#", number: true, text: (row) => (isPublished(row) ? nothing : (row.rank ?? nothing)) },
    { key: "method", head: "method", text: methodCell },
    metric(main),
    {
      key: "modality",
      head: "modality",
      text: (row) => el("abbr", { title: modalityText(row.modality) }, row.modality),
    },
    ...others.map(metric),
    number("chance", "chance", (row) => (row.chance === null ? nothing : metricText(board.metrics[0], row.chance))),
    number("n", "n", (row) => row.n ?? nothing),
    number("coverage", "coverage", (row) => coverageCell(row)),
    { key: "pretraining", head: "pretraining", text: (row) => row.pretraining || nothing },
    number("parameters", "parameters", (row) => amount(row.parameters)),
    number("hours", "device-hours", (row) => amount(row.hours)),
    number("seeds", "seeds", (row) => seedsText(row)),
    { key: "commit", head: "commit", text: (row) => commitCell(row) },
    { key: "date", head: "date", falls: true, text: (row) => row.date || nothing },
    { key: "runs", head: "runs", number: true, falls: true, text: runsCell, by: (row) => row.runs.length || null },
    { key: "source", head: "source", text: (row) => row.source || nothing },
  ];
}

// A column that no row has anything in says nothing.
function usedColumns(board) {
  const rows = boardRows(board);
  const empty = (column) =>
    rows.every((row) => [null, undefined, ""].includes((column.by ?? ((each) => each[column.key]))(row)));
  return boardColumns(board).filter(
    (column) => ["rank", "method", "modality", board.metrics[0]].includes(column.key) || !empty(column),
  );
}

function coverageCell(row) {
  if (row.coverage === null) return nothing;
  return row.coverage < 1 ? el("span", { class: "warn" }, coverageText(row.coverage)) : coverageText(row.coverage);
}

function seedsText(row) {
  if (row.seeds === null) return nothing;
  return row.folds > 1 ? `${row.seeds} × ${row.folds} folds` : String(row.seeds);
}

function commitCell(row) {
  if (isPublished(row)) return nothing;
  return [el("code", {}, row.commit || "none"), row.dirty && el("span", { class: "warn" }, "*")];
}

function runsCell(row) {
  if (isPublished(row)) return nothing;
  return el(
    "a",
    { href: route("run", runId(row.newest)), class: "run-link" },
    row.runs.length === 1 ? "run" : `${row.runs.length} runs`,
  );
}

function methodCell(row) {
  return [
    el("div", {}, link(row.method, "method", row.method), isPublished(row) && [" ", tag("published", "published")]),
    el("div", { class: "sub" }, [row.stage, row.label].filter(Boolean).join(" · ")),
    isPublished(row)
      ? el("div", { class: "sub" }, row.where)
      : row.remarks.map((text) => el("div", { class: "remark" }, text)),
  ];
}

// Missing values come last, whichever way it is sorted, and before them what was scored on too few clips for a rank.
function sorted(rows, key, falls, columns) {
  const by = columns.find((column) => column.key === key)?.by ?? ((row) => row[key]);
  const missing = (value) => value === null || value === undefined || value === "";
  const sign = falls ? -1 : 1;
  return [...rows].sort((one, two) => {
    const [a, b] = [by(one), by(two)];
    if (missing(a) || missing(b)) return missing(a) - missing(b) || one.index - two.index;
    if (one.enough !== two.enough) return two.enough - one.enough;
    return (typeof a === "string" ? sign * a.localeCompare(b) : sign * (a - b)) || one.index - two.index;
  });
}

function filtered(rows, chosen) {
  const words = (chosen.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const [modality, pretraining, kind] = ["modality", "pretraining", "kind"].map((name) => chosen.get(name));
  return rows.filter((row) => {
    if (modality && row.modality !== modality) return false;
    if (pretraining && (row.pretraining || "none") !== pretraining) return false;
    if (kind && row.kind !== kind) return false;
    const text = () =>
      [row.method, row.stage, row.label, row.pretraining, row.commit, row.where, row.source, ...row.remarks]
        .join(" ")
        .toLowerCase();
    return !words.length || words.every((word) => text().includes(word));
  });
}

function select(label, name, options, value, change) {
  const choices = options.map(([key, text]) => el("option", { value: key, selected: key === value }, text));
  const box = el("select", { name, onchange: (event) => change(event.target.value) }, choices);
  return el("label", {}, el("span", {}, label), box);
}

function boardSelect(name) {
  const box = el("select", {
    name: "board",
    onchange: (event) => (location.hash = route("board", event.target.value)),
  });
  for (const dataset of new Set(DATA.boards.map((board) => board.dataset))) {
    const mine = DATA.boards.filter((board) => board.dataset === dataset);
    const options = mine.map((board) => el("option", { value: board.name, selected: board.name === name }, board.name));
    box.append(el("optgroup", { label: dataset }, options));
  }
  return el("label", {}, el("span", {}, "Board"), box);
}

function boardPage(name, chosen) {
  const board = BOARDS.get(name);
  if (!board) return missingPage(`No board with rows is called “${name}”.`);
  const rows = boardRows(board);
  const columns = usedColumns(board);
  const table = el("div", { class: "results" });
  const plot = el("div", { class: "plot" });
  const count = el("p", { class: "count", role: "status" });

  const choose = (key, value) => {
    if (value) chosen.set(key, value);
    else chosen.delete(key);
    const query = chosen.toString();
    history.replaceState(null, "", route("board", name) + (query ? `?${query}` : ""));
    draw();
  };
  const draw = () => {
    const shown = filtered(rows, chosen);
    const measured = shown.filter((row) => !isPublished(row)).length;
    const kinds = DATA.sample ? "" : `: ${measured} measured, ${shown.length - measured} published`;
    count.textContent = `${shown.length} of ${rows.length} row${rows.length === 1 ? "" : "s"}${kinds}`;
    drawTable(board, shown, columns, chosen, choose, table);
    drawPlot(board, shown, chosen.get("x") ?? "parameters", plot);
  };
  const options = (values) => [["", "all"], ...[...new Set(values)].sort().map((value) => [value, value])];
  const search = el("input", {
    type: "search",
    name: "q",
    value: chosen.get("q") ?? "",
    placeholder: "method, stage, remark …",
    oninput: (event) => choose("q", event.target.value),
  });
  const axis = [
    ["parameters", "parameters"],
    ["hours", "device-hours"],
  ];
  let against;
  const page = [
    el("h1", {}, board.name),
    el("p", { class: "lead" }, board.legend[0]),
    el(
      "form",
      { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      boardSelect(name),
      select("Modality", "modality", options(rows.map((row) => row.modality)), chosen.get("modality") ?? "", (v) =>
        choose("modality", v),
      ),
      select(
        "Pretraining",
        "pretraining",
        options(rows.map((row) => row.pretraining || "none")),
        chosen.get("pretraining") ?? "",
        (v) => choose("pretraining", v),
      ),
      !DATA.sample &&
        select(
          "Measured or published",
          "kind",
          [
            ["", "all"],
            ["measured", "measured"],
            ["published", "published"],
          ],
          chosen.get("kind") ?? "",
          (v) => choose("kind", v),
        ),
      el("label", { class: "wide" }, el("span", {}, "Search"), search),
    ),
    el(
      "div",
      { class: "above" },
      count,
      el("button", { type: "button", class: "jump", onclick: () => against.scrollIntoView() }, "Plot"),
    ),
    table,
    (against = el(
      "section",
      {},
      el(
        "div",
        { class: "split" },
        el("h2", {}, `${metricLabel(board.metrics[0])} against size or cost`),
        select("Across", "x", axis, chosen.get("x") ?? "parameters", (v) => choose("x", v)),
      ),
      plot,
    )),
    section(
      "How to read this board",
      board.legend.slice(1).map((line) => el("p", {}, line)),
    ),
  ];
  draw();
  return {
    title: board.name,
    page,
    resize: () => drawPlot(board, filtered(rows, chosen), chosen.get("x") ?? "parameters", plot),
  };
}

function drawTable(board, rows, columns, chosen, choose, place) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const key = chosen.get("sort") ?? board.metrics[0];
  const column = columns.find((each) => each.key === key) ?? columns[0];
  const falls = chosen.has("order") ? chosen.get("order") === "falling" : Boolean(column.falls);
  const head = (each) => {
    const mine = each.key === column.key;
    const order = () => {
      const next = mine ? !falls : Boolean(each.falls);
      chosen.set("order", next ? "falling" : "rising");
      choose("sort", each.key);
    };
    const button = el(
      "button",
      { type: "button", "data-key": each.key, onclick: order },
      each.head,
      el("span", { class: "order", "aria-hidden": "true" }, mine ? (falls ? "▼" : "▲") : ""),
    );
    const sort = mine ? (falls ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: each.number ? "number" : each.key, "aria-sort": sort }, button);
  };
  const line = (row) =>
    el(
      "tr",
      { class: isPublished(row) ? "published" : "measured" },
      columns.map((each) => {
        const kinds = [each.number ? "number" : each.key, each.key === board.metrics[0] && "main"].filter(Boolean);
        return el(
          each.key === "method" ? "th" : "td",
          { class: kinds.join(" "), scope: each.key === "method" ? "row" : null },
          each.text(row),
        );
      }),
    );
  const body = el("tbody");
  const button = more(sorted(rows, column.key, falls, columns), PAGE_ROWS, line, body);
  const table = el(
    "table",
    { class: "board" },
    el("caption", { class: "unseen" }, `Rows of ${board.name}`),
    el("thead", {}, el("tr", {}, columns.map(head))),
    body,
  );
  const old = place.querySelector(".scroll");
  const left = old ? old.scrollLeft : 0;
  const box = boxed(`Rows of ${board.name}`, table);
  place.replaceChildren(box, rows.length ? button : el("p", { class: "empty" }, "No row is like that. Choose less."));
  box.scrollLeft = left;
  if (focused) place.querySelectorAll("th button").forEach((each) => each.dataset.key === focused && each.focus());
}
