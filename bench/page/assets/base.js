// Data, formats and elements. Everything that comes from a record becomes a text node or an encoded part of a local
// address; nothing is ever parsed as markup.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read("boards-data");
let readRuns = () => {
  const runs = read("runs-data");
  readRuns = () => runs;
  return runs;
};

// A column is a list, or `of` what differs and `at` which one each row has.
const cell = (column, row) => (Array.isArray(column) ? column[row] : column.of[column.at[row]]);
const rowOf = (columns, row) => {
  const found = {};
  for (const name of Object.keys(columns)) found[name] = cell(columns[name], row);
  return found;
};

const BOARDS = new Map(DATA.boards.map((board) => [board.name, board]));
const METHODS = new Map(Object.entries(DATA.methods));

function boardRows(board) {
  board.lines ??= Array.from({ length: board.size }, (_, index) => ({ index, board, ...rowOf(board.rows, index) }));
  return board.lines;
}

const isPublished = (row) => row.kind === "published";

function run(index) {
  const runs = readRuns();
  return { index, evidence: runs.evidence[index], ...rowOf(runs.rows, index) };
}

function runIndex(id) {
  const runs = readRuns();
  if (!runs.rows.id) return undefined;
  runs.byId ??= new Map(runs.rows.id.map((name, index) => [name, index]));
  return runs.byId.get(id);
}

const runId = (index) => readRuns().rows.id[index];

// ---- elements

// children: elements, texts, or nothing; attributes: names are ours, values become attributes as they are.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const route = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
const link = (text, ...parts) => el("a", { href: route(...parts) }, text);
const tag = (text, kind = "") => el("span", { class: `tag ${kind}` }, text);

// A table that scrolls inside its own box.
const boxed = (label, table) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);

function plainTable(label, heads, rows, numeric = []) {
  const kind = (column) => (numeric.includes(column) ? "number" : null);
  return boxed(
    label,
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          heads.map((head, i) => el("th", { scope: "col", class: kind(i) }, head)),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map((row) =>
          el(
            "tr",
            {},
            row.map((item, i) => el("td", { class: kind(i) }, item)),
          ),
        ),
      ),
    ),
  );
}

function facts(label, pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { "aria-label": label },
    known.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
}

function section(title, ...content) {
  return el("section", {}, el("h2", {}, title), ...content);
}

// The first `count` of many, and a button for more.
function more(items, count, draw, place) {
  const button = el("button", { type: "button", class: "more" });
  let done = 0;
  const next = () => {
    place.append(...items.slice(done, done + count).map(draw));
    done = Math.min(items.length, done + count);
    button.textContent = `Show more (${done} of ${items.length} shown)`;
    button.hidden = done === items.length;
  };
  button.addEventListener("click", next);
  next();
  return button;
}

// ---- formats

const nothing = "–";

// Ties go to the even digit, as in the tables.
function fixed(value, decimals) {
  const scaled = value * 10 ** decimals;
  const below = Math.floor(scaled);
  return (scaled - below === 0.5 && below % 2 === 0 ? below / 10 ** decimals : value).toFixed(decimals);
}

function metricText(name, value) {
  if (value === null || value === undefined) return nothing;
  const info = DATA.metrics[name];
  return info ? fixed(value * (info.percent ? 100 : 1), info.decimals) : String(value);
}

const metricLabel = (name) => DATA.metrics[name]?.label ?? name;
const arrow = (name) => (DATA.metrics[name]?.better === "lower" ? "↓" : "↑");

function amount(value) {
  if (value === null || value === undefined || value === "") return nothing;
  if (typeof value !== "number") return String(value);
  for (const [unit, size] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

// Rounded down, so that 100 % means all.
const coverageText = (share) =>
  share > 0 && share < 0.001 ? "< 0.1 %" : share < 1 ? `${(Math.floor(share * 1000) / 10).toFixed(1)} %` : "100 %";

// `value`, and what stands behind it: an interval, a standard deviation, or nothing.
function spread(name, row) {
  const [low, high, std] = ["low", "high", "std"].map((part) => row[`${name} ${part}`]);
  const known = (value) => value !== null && value !== undefined;
  const interval = known(low) ? `[${metricText(name, low)}, ${metricText(name, high)}]` : "";
  return [interval, known(std) && `± ${metricText(name, std)}`].filter(Boolean).join(" ");
}

const shownValue = (name, row) => (isPublished(row) ? row.printed[name] : undefined) ?? metricText(name, row[name]);

function valueNodes(name, row) {
  const extra = spread(name, row);
  return [el("span", { class: "value" }, shownValue(name, row)), extra && el("span", { class: "spread" }, ` ${extra}`)];
}

const rowTitle = (row) => (row.label ? `${row.method} (${row.label})` : row.method);
