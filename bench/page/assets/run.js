// A run: what was measured, on what, from what, at what cost; its curves, its classes, and how to repeat it.

function runPage(id) {
  const index = runIndex(id);
  if (index === undefined) return missingPage(`No run is called “${id}”.`);
  const it = run(index);
  const row = BOARDS.has(it.board)
    ? boardRows(BOARDS.get(it.board)).find((line) => line.runs.includes(index))
    : undefined;
  return {
    title: `${it.method}, ${it.stage}`,
    page: [
      el("p", { class: "crumbs" }, link(it.board, "board", it.board), " / ", link(it.method, "method", it.method)),
      el("h1", {}, `${it.method} · ${row?.stage ?? it.stage}`),
      el(
        "p",
        { class: "lead" },
        [it.variant, `preset ${it.preset}`, `seed ${it.seed}`, it.fold, modalityText(it.modality)]
          .filter(Boolean)
          .join(" · "),
      ),
      el("p", { class: "badges" }, badges(it, row)),
      el("div", { class: "cards" }, scores(it), clips(it), cost(it)),
      section("Repeat it", command(it)),
      row && row.runs.length > 1 && section(`The ${row.runs.length} runs of this row`, siblings(it, row)),
      it.evidence?.curves &&
        section(
          "Curves",
          el(
            "div",
            { class: "curves" },
            Object.entries(it.evidence.curves.series).map(([name, values]) =>
              curve(name, it.evidence.curves.step, values, ownValidation(it)),
            ),
          ),
        ),
      it.evidence?.classes && classSections(it.evidence.classes),
      section("Where it comes from", origin(it)),
      section("Configuration", configuration(it.config)),
      section(
        "Protocol, machine, versions",
        el(
          "div",
          { class: "cards" },
          [
            ["Protocol", it.protocol],
            ["Machine", it.hardware],
            ["Versions", it.versions],
          ].map(([title, values]) => card(title, facts(title, leaves(values)))),
        ),
      ),
    ],
  };
}

// How the run's own training was validated, if it was; others are of stages before it.
const ownValidation = (it) =>
  it.validations?.find((each) => !it.parents.some((parent) => parent.stage === each.stage));

const card = (title, ...content) => el("section", { class: "card" }, el("h2", {}, title), ...content);

function badges(it, row) {
  return [
    DATA.sample && tag("made-up sample data", "made-up"),
    it.dirty && tag("uncommitted changes", "warn-tag"),
    it.data.coverage < 1 && !row && tag(`${coverageText(it.data.coverage)} of the clips`, "warn-tag"),
    row === undefined && tag("not on its board: a newer run took its place, or its protocol is another", "warn-tag"),
    row?.remarks.map((text) => tag(text, "remark-tag")),
  ]
    .flat()
    .filter(Boolean)
    .filter((each, i, all) => all.findIndex((other) => other.textContent === each.textContent) === i);
}

function scores(it) {
  const line = ([name, [value, low, high]]) => [
    `${metricLabel(name)} ${arrow(name)}`,
    el("span", { class: "value" }, metricText(name, value)),
    `[${metricText(name, low)}, ${metricText(name, high)}]`,
    name in it.chance ? metricText(name, it.chance[name]) : nothing,
  ];
  const order = BOARDS.get(it.board)?.metrics ?? [];
  const place = ([name]) => (order.includes(name) ? order.indexOf(name) : order.length);
  const named = Object.entries(it.metrics).sort((a, b) => place(a) - place(b));
  const notes = Object.entries(it.notes).map(([name, value]) =>
    el("p", { class: "remark" }, `${name.replaceAll("_", " ")}: ${value}`),
  );
  return card(
    "Scores",
    plainTable("Scores", ["metric", "value", "95 % interval", "chance"], named.map(line), [1, 2, 3]),
    notes,
  );
}

function clips(it) {
  const data = it.data;
  return card(
    "Clips",
    facts("Clips", [
      ["scored", `${it.n} of ${data.dataset} ${data.split}`],
      ["used of official", `${data.used} of ${data.official} (${coverageText(data.coverage)})`],
      ...Object.entries(data.excluded).map(([reason, count]) => [`left out: ${reason}`, String(count)]),
      ["fingerprint", el("code", {}, data.fingerprint)],
      [
        "trained on",
        it.train &&
          `${it.train.dataset} ${it.train.split}: ${it.train.used} of ${it.train.official} clips ` +
            `(${coverageText(it.train.coverage)})`,
      ],
      ...Object.entries(it.train?.excluded ?? {}).map(([reason, count]) => [
        `left out of training: ${reason}`,
        String(count),
      ]),
      ...(it.validations ?? []).map((each) => [
        each === ownValidation(it) ? "validated on" : `${each.stage} validated on`,
        `${each.n} clips of ${each.data.dataset} ${each.data.split}, which keeps the ${each.keep} epoch, ` +
          `${each.epoch} of ${each.epochs}: ${metricLabel(each.metric)} ${metricText(each.metric, each.value)}`,
      ]),
      ["predictions, SHA-256", it.predictions_sha256 && el("code", {}, it.predictions_sha256.slice(0, 16))],
    ]),
  );
}

function cost(it) {
  const c = it.cost;
  const time = (seconds) =>
    seconds < 120
      ? `${amount(seconds)} s`
      : seconds < 7200
        ? `${amount(seconds / 60)} min`
        : `${amount(seconds / 3600)} h`;
  const known = (value, text) => (typeof value === "number" ? text(value) : value);
  return card(
    "Cost",
    facts("Cost", [
      ["parameters", known(c.parameters, amount)],
      ["FLOPs a clip", known(c.flops, amount)],
      ["training time", known(c.wall_seconds, time)],
      ["device-hours", known(c.device_hours, amount)],
      ["with the stages before", known(c.total_device_hours, amount)],
      ["clips a second", known(c.samples_per_second, amount)],
      ["waited for data", known(c.data_wait, (share) => `${(share * 100).toFixed(1)} %`)],
      ["peak memory", known(c.peak_memory_bytes, (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`)],
    ]),
  );
}

function command(it) {
  const text = [it.commit && `git checkout ${it.commit}`, it.command].filter(Boolean).join("\n");
  const code = el("code", {}, text);
  const copy = el(
    "button",
    {
      type: "button",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          copy.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code);
        }
      },
    },
    "Copy",
  );
  return [
    el("div", { class: "command" }, el("pre", { tabindex: 0 }, code), copy),
    it.dirty && el("p", { class: "remark" }, "The tree had uncommitted changes: this commit is not all that was run."),
    it.parents.some((parent) => parent.stage === "init") &&
      el(
        "p",
        { class: "sub" },
        "It started from a file of weights, named under “Where it comes from”; give it with init=FILE.",
      ),
  ];
}

function siblings(it, row) {
  const main = row.board.metrics[0];
  const lines = row.runs.map(run).map((other) => {
    const [value, low, high] = other.metrics[main] ?? [null, null, null];
    const name = [`seed ${other.seed}`, other.fold].filter(Boolean).join(", ");
    return [
      other.index === it.index ? el("strong", { "aria-current": "page" }, name) : link(name, "run", other.id),
      el("span", { class: "value" }, metricText(main, value)),
      value === null ? nothing : `[${metricText(main, low)}, ${metricText(main, high)}]`,
      String(other.n),
      other.created,
    ];
  });
  return plainTable("Runs of this row", ["run", metricLabel(main), "95 % interval", "n", "made"], lines, [1, 2, 3]);
}

function origin(it) {
  const lines = it.parents.map((parent) => [parent.stage, parent.data || nothing, el("code", {}, parent.identity)]);
  return [
    facts("Where it comes from", [
      [
        "commit",
        [
          el("code", {}, it.commit ?? "none"),
          it.dirty === true && " with uncommitted changes",
          it.dirty === false && " (clean tree)",
        ],
      ],
      ...it.packages.map((each) => [
        `${each.role} ${each.name}`,
        [
          `${each.distribution} ${each.version} · `,
          each.commit && ["commit ", el("code", {}, each.commit), " · "],
          each.dirty === true && "with uncommitted changes · ",
          "source ",
          el("code", {}, each.source_sha256.slice(0, 16)),
        ],
      ]),
      ["made", it.created],
      ["identity of the stage", el("code", {}, it.identity)],
      ["hash of the configuration", el("code", {}, it.config_hash)],
      ["record", el("code", {}, `${it.id}.json`)],
    ]),
    lines.length > 0 && plainTable("Stages before", ["starts from", "trained on", "identity"], lines),
  ];
}

// ---- classes

function classSections(classes) {
  const order = classes.names
    .map((_, i) => i)
    .filter((i) => classes.value[i] !== null)
    .sort((a, b) => classes.value[b] - classes.value[a] || a - b);
  const body = el("tbody");
  const bar = (share) =>
    svg(
      "svg",
      { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { width: 100, height: 8, class: "bar-base" }),
      svg("rect", { width: 100 * share, height: 8, class: "bar-value" }),
    );
  const line = (i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, classes.names[i]),
      el("td", { class: "number value" }, (classes.value[i] * 100).toFixed(1)),
      el("td", { class: "bar-cell" }, bar(classes.value[i])),
      el("td", { class: "number" }, String(classes.n[i])),
    );
  const button = more(order, 60, line, body);
  const heads = [["class"], [`${classes.score} (%)`, "number"], [""], ["clips", "number"]];
  const table = el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        heads.map(([head, kind]) => el("th", { scope: "col", class: kind }, head)),
      ),
    ),
    body,
  );
  return [
    section("By class", boxed("Scores by class", table), button),
    classes.matrix && section("What is taken for what", matrix(classes)),
    classes.pairs?.length > 0 &&
      section(
        "What is taken for what",
        plainTable(
          "Commonest confusions",
          ["class", "taken for", "clips"],
          classes.pairs.map(([a, b, count]) => [classes.names[a], classes.names[b], String(count)]),
          [2],
        ),
      ),
  ];
}

function matrix(classes) {
  const sums = classes.matrix.map((line) => line.reduce((a, b) => a + b, 0));
  const shade = (count, sum) => (count ? `heat-${Math.max(1, Math.ceil((count / sum) * 8))}` : "");
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "class ╲ taken for"),
    classes.names.map((name) => el("th", { scope: "col", class: "turned" }, el("span", {}, name))),
  );
  const lines = classes.matrix.map((line, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, classes.names[i]),
      line.map((count, j) =>
        el(
          "td",
          {
            class: `heat ${shade(count, sums[i])} ${i === j ? "right" : ""}`,
            title: `${classes.names[i]} taken for ${classes.names[j]}: ${count}`,
          },
          count ? String(count) : "",
        ),
      ),
    ),
  );
  return boxed("Confusion matrix", el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, lines)));
}

// ---- configuration

function leaves(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, String(value)]];
  if (Array.isArray(value) && value.every((item) => item === null || typeof item !== "object"))
    return [[path, `[${value.join(", ")}]`]];
  const items = Object.entries(value);
  return items.length
    ? items.flatMap(([key, item]) => leaves(item, path ? `${path}.${key}` : key))
    : [[path, Array.isArray(value) ? "[]" : "{}"]];
}

function configuration(config) {
  const { parts } = readRuns();
  return config.map(([name, part]) => el("details", {}, el("summary", {}, name), facts(name, leaves(parts[part]))));
}
