// The overview of boards, the methods, a method, and two methods side by side.

const methodRows = (name) => DATA.boards.flatMap((board) => boardRows(board).filter((row) => row.method === name));
const bestOf = (rows, kind) => rows.find((row) => row.kind === kind && row[row.board.metrics[0]] !== null);

function missingPage(text) {
  return {
    title: "Not here",
    page: [el("h1", {}, "Not here"), el("p", {}, text), el("p", {}, el("a", { href: "#/" }, "All boards"))],
  };
}

function bestCell(row) {
  if (!row) return nothing;
  const name = row.board.metrics[0];
  return [
    el("span", { class: isPublished(row) ? "cell-value printed" : "cell-value" }, valueNodes(name, row)),
    el("span", { class: "sub" }, rowTitle(row)),
    !isPublished(row) && row.remarks.map((text) => el("div", { class: "remark" }, text)),
  ];
}

function homePage() {
  const heads = ["board", "metric", "best measured", ...(DATA.sample ? [] : ["best published"]), "task", "rows"];
  const body = (dataset) => {
    const rows = DATA.boards
      .filter((board) => board.dataset === dataset)
      .map((board) => {
        const lines = boardRows(board);
        return [
          link(board.name, "board", board.name),
          `${metricLabel(board.metrics[0])} ${arrow(board.metrics[0])}`,
          bestCell(bestOf(lines, "measured")),
          ...(DATA.sample ? [] : [bestCell(bestOf(lines, "published"))]),
          board.task,
          String(board.size),
        ];
      });
    return el(
      "tbody",
      {},
      el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: heads.length }, dataset)),
      rows.map((row) =>
        el(
          "tr",
          {},
          row.map((item, i) => el("td", { class: i === heads.length - 1 ? "number" : null }, item)),
        ),
      ),
    );
  };
  const datasets = [...new Set(DATA.boards.map((board) => board.dataset))];
  const head = el(
    "thead",
    {},
    el(
      "tr",
      {},
      heads.map((text, i) => el("th", { scope: "col", class: i === heads.length - 1 ? "number" : null }, text)),
    ),
  );
  const rows = DATA.boards.flatMap(boardRows);
  const published = rows.filter(isPublished).length;
  return {
    title: "Boards",
    page: [
      el("h1", {}, "Boards"),
      el(
        "p",
        { class: "lead" },
        `${rows.length - published} measured rows${DATA.sample ? "" : ` and ${published} published ones`} on `,
        `${DATA.boards.length} boards. A board is a dataset, a split and a protocol; each measured row leads to the `,
        "runs behind it.",
      ),
      datasets.length
        ? boxed("Boards", el("table", { class: "home" }, head, datasets.map(body)))
        : el("p", { class: "empty" }, "No records yet."),
    ],
  };
}

function paperRemark(method) {
  if (!method.paper) return nothing;
  const count = method.paper.rows.length;
  return count ? `${count} row${count === 1 ? "" : "s"}` : el("span", { class: "sub" }, "no verified published row");
}

function methodsPage() {
  const counts = new Map();
  for (const board of DATA.boards) {
    for (const row of boardRows(board))
      if (!isPublished(row)) counts.set(row.method, (counts.get(row.method) ?? 0) + 1);
  }
  const rows = [...METHODS].map(([name, method]) => [
    link(name, "method", name),
    el("span", { class: "title" }, method.title),
    method.paper ? `${method.paper.arxiv}${method.paper.venue ? `, ${method.paper.venue}` : ""}` : nothing,
    method.runnable ? "yes" : nothing,
    counts.has(name) ? String(counts.get(name)) : nothing,
    paperRemark(method),
  ]);
  const table = plainTable(
    "Methods",
    ["method", "title", "arXiv", "can be run", "measured rows", "published"],
    rows,
    [4],
  );
  return { title: "Methods", page: [el("h1", {}, "Methods"), table] };
}

function methodPage(name) {
  const method = METHODS.get(name);
  if (!method) return missingPage(`No method is called “${name}”.`);
  const measured = methodRows(name).filter((row) => !isPublished(row));
  const rows = measured.map((row) => {
    const main = row.board.metrics[0];
    return [
      link(row.board.name, "board", row.board.name),
      [
        el("div", { class: "cell-value" }, valueNodes(main, row)),
        el("div", { class: "sub" }, `${metricLabel(main)} ${arrow(main)}`),
      ],
      [
        el("div", {}, row.stage),
        el("div", { class: "sub" }, row.label),
        row.remarks.map((text) => el("div", { class: "remark" }, text)),
      ],
      row.modality,
      row.rank === null
        ? nothing
        : `${row.rank} of ${boardRows(row.board).filter((other) => other.rank !== null).length}`,
      coverageCell(row),
      amount(row.parameters),
      amount(row.hours),
      seedsText(row),
      commitCell(row),
      runsCell(row),
    ];
  });
  const heads = [
    "board",
    "value",
    "stage",
    "modality",
    "rank",
    "coverage",
    "parameters",
    "device-hours",
    "seeds",
    "commit",
    "runs",
  ];
  const paper = method.paper;
  return {
    title: name,
    page: [
      el("h1", {}, name),
      el("p", { class: "lead" }, method.title),
      paper && el("p", { class: "sub" }, [`arXiv ${paper.arxiv}`, paper.venue].filter(Boolean).join(" · ")),
      method.idea.length > 0 &&
        el(
          "div",
          { class: "idea" },
          method.idea.map((text) => el("p", {}, text)),
        ),
      el("p", { class: "actions" }, link("Compare with another method", "compare", name)),
      section(
        "Measured here",
        rows.length
          ? plainTable(`Rows of ${name}`, heads, rows, [1, 4, 5, 6, 7, 8, 10])
          : el(
              "p",
              { class: "empty" },
              method.runnable ? "Nothing has been measured yet." : "This method cannot be run here yet.",
            ),
      ),
      paper && section("Published", publishedTable(name, paper)),
    ],
  };
}

function publishedTable(name, paper) {
  const metric = ([key, value]) => el("div", {}, `${metricLabel(key)} `, el("span", { class: "value" }, value));
  const rows = paper.rows.map((row) => [
    [
      el("div", {}, tag("published", "published"), " ", row.benchmark),
      row.board && BOARDS.has(row.board) && el("div", { class: "sub" }, "board ", link(row.board, "board", row.board)),
    ],
    Object.entries(row.metrics).map(metric),
    row.variant,
    row.modality,
    row.pretraining || nothing,
    amount(row.parameters),
    [
      el("div", {}, row.place),
      row.source !== row.place && el("div", { class: "sub" }, row.source),
      row.note && el("div", { class: "sub" }, row.note),
    ],
  ]);
  const heads = [
    "benchmark",
    "as printed",
    "variant",
    "modality",
    "pretraining",
    "parameters",
    "where it stands, and its source",
  ];
  return [
    rows.length
      ? plainTable(`Published rows of ${name}`, heads, rows, [5])
      : el("p", { class: "empty" }, "No verified published row."),
    paper.recalled > 0 &&
      el(
        "p",
        { class: "sub" },
        paper.recalled === 1 ? "A further row waits" : `${paper.recalled} further rows wait`,
        " for somebody to give the source.",
      ),
    paper.note && el("p", { class: "sub" }, paper.note),
  ];
}

// ---- side by side

function comparePage(one, two) {
  const names = [...METHODS.keys()];
  const options = [["", "choose …"], ...names.map((name) => [name, name])];
  const go = (a, b) => (location.hash = route("compare", a, b));
  const choice = el(
    "form",
    { class: "filters", onsubmit: (event) => event.preventDefault() },
    select("First method", "one", options, one ?? "", (value) => go(value, two ?? "")),
    select("Second method", "two", options, two ?? "", (value) => go(one ?? "", value)),
  );
  const wrong = [one, two].find((name) => name && !METHODS.has(name));
  if (wrong) return missingPage(`No method is called “${wrong}”.`);
  const ready = one && two;
  return {
    title: ready ? `${one} and ${two}` : "Compare",
    page: [
      el("h1", {}, ready ? `${one} and ${two}` : "Two methods side by side"),
      choice,
      ready ? comparison(one, two) : el("p", { class: "empty" }, "Choose two methods."),
    ],
  };
}

function comparison(one, two) {
  const boards = DATA.boards.filter((board) =>
    [one, two].every((name) => boardRows(board).some((row) => row.method === name)),
  );
  if (!boards.length) return el("p", { class: "empty" }, "No board has rows of both.");
  const cell = (row) =>
    row
      ? [
          el(
            "div",
            {},
            valueNodes(row.board.metrics[0], row),
            isPublished(row) && [" ", tag("published", "published")],
          ),
          el("div", { class: "sub" }, [row.stage, row.label].filter(Boolean).join(" · ")),
          !isPublished(row) && row.remarks.map((text) => el("div", { class: "remark" }, text)),
        ]
      : nothing;
  const rows = boards.flatMap((board) => {
    const mine = [one, two].map((name) => boardRows(board).filter((row) => row.method === name));
    const modalities = [...new Set(mine.flat().map((row) => row.modality))].sort();
    return modalities
      .flatMap((modality) =>
        ["measured", "published"].map((kind) => {
          const [a, b] = mine.map((lines) =>
            bestOf(
              lines.filter((row) => row.modality === modality),
              kind,
            ),
          );
          if (!a && !b) return null;
          return [
            [
              el("div", {}, link(board.name, "board", board.name)),
              el("div", { class: "sub" }, `${modality} · ${metricLabel(board.metrics[0])} ${arrow(board.metrics[0])}`),
            ],
            cell(a),
            cell(b),
            kind === "measured" ? difference(a, b) : nothing,
          ];
        }),
      )
      .filter(Boolean);
  });
  const sized = (name) => methodRows(name).filter((row) => !isPublished(row));
  const range = (values) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return nothing;
    const [low, high] = [Math.min(...known), Math.max(...known)];
    return low === high ? amount(low) : `${amount(low)} to ${amount(high)}`;
  };
  const size = ["parameters", "hours"].map((key) => [
    AXIS[key],
    range(sized(one).map((row) => row[key])),
    range(sized(two).map((row) => row[key])),
  ]);
  return [
    section(
      "On the same boards",
      plainTable("Both methods", ["board", one, two, "difference"], rows, [1, 2, 3]),
      el(
        "p",
        { class: "sub" },
        "The best row of each, by board and modality. A difference between two measured rows is no test: both may ",
        "have scored other clips. ",
        el("code", {}, `python -m bench compare ${one} ${two} --board BOARD`),
        " compares them on the clips that both scored.",
      ),
    ),
    section("Size and cost of what is measured", plainTable("Size and cost", ["", one, two], size, [1, 2])),
  ];
}

function difference(a, b) {
  if (!a || !b) return nothing;
  const name = a.board.metrics[0];
  const value = a[name] - b[name];
  const text = metricText(name, Math.abs(value));
  if (value === 0) return text;
  const ahead = value > 0 === (DATA.metrics[name].better === "higher") ? a : b;
  return [
    el("div", { class: "value" }, `${value > 0 ? "+" : "−"}${text}`),
    el("div", { class: "sub" }, `${ahead.method} is ahead`),
  ];
}
