// Plots, as SVG: a board's main metric against parameters or device-hours, and a run's curves.

const MOST_POINTS = 400;
const LABELLED = 24;
const AXIS = { parameters: "parameters", hours: "device-hours" };

function niceTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const marks = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const mark of marks) {
      const value = mark * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  }
  return ticks;
}

// The 95 % interval over clips, of every row alike; the spread over seeds and folds stands in the text.
const bounds = (name, row) => (row[`${name} low`] === null ? null : [row[`${name} low`], row[`${name} high`]]);

function frame(size, ticks, texts) {
  const { width, height, left, right, top, bottom } = size;
  return [
    ticks.y.map(([at, text]) => [
      svg("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }),
      svg("text", { class: "tick", x: left - 8, y: at + 4, "text-anchor": "end" }, text),
    ]),
    ticks.x.map(([at, text]) => [
      svg("line", { class: "mark", x1: at, x2: at, y1: height - bottom, y2: height - bottom + 5 }),
      svg("text", { class: "tick", x: at, y: height - bottom + 19, "text-anchor": "middle" }, text),
    ]),
    svg("line", { class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }),
    svg("text", { class: "axis", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, texts.x),
    svg("text", { class: "axis", x: left - 38, y: top - 10 }, texts.y),
  ];
}

function drawPlot(board, rows, axis, place) {
  const name = board.metrics[0];
  const ranked = rows.filter((row) => row.enough);
  const usable = ranked.filter((row) => row[name] !== null && row[axis] > 0);
  const points = usable.slice(0, MOST_POINTS);
  const [few, left] = [rows.length - ranked.length, ranked.length - usable.length];
  const notes = [
    few && `${few} row${few === 1 ? "" : "s"} on too few clips for a rank ${few === 1 ? "is" : "are"} not drawn.`,
    left && `${left} row${left === 1 ? "" : "s"} without ${AXIS[axis]} ${left === 1 ? "is" : "are"} not drawn.`,
    usable.length > points.length && `The best ${points.length} of ${usable.length} are drawn.`,
  ]
    .filter(Boolean)
    .join(" ");
  if (!points.length) {
    place.replaceChildren(el("p", { class: "empty" }, `No row here has ${AXIS[axis]}. ${notes}`));
    return;
  }
  const size = {
    width: Math.max(300, place.clientWidth ? place.clientWidth - 26 : 800),
    height: 400,
    left: 52,
    right: 20,
    top: 34,
    bottom: 50,
  };
  const factor = DATA.metrics[name].percent ? 100 : 1;
  const values = points.flatMap((row) => [row[name], ...(bounds(name, row) ?? [])]).map((value) => value * factor);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  low = DATA.metrics[name].percent ? Math.max(0, low - room) : low - room;
  high = DATA.metrics[name].percent ? Math.min(100, high + room) : high + room;
  const amounts = points.map((row) => row[axis]);
  const wide = Math.max(1.6, (Math.max(...amounts) / Math.min(...amounts)) ** 0.06);
  const [least, most] = [Math.min(...amounts) / wide, Math.max(...amounts) * wide];
  const x = (value) =>
    size.left + ((size.width - size.left - size.right) * Math.log(value / least)) / Math.log(most / least);
  const y = (value) =>
    size.height - size.bottom - ((size.height - size.top - size.bottom) * (value * factor - low)) / (high - low);
  const ticks = {
    x: thinned(logTicks(least, most).map((value) => [x(value), amount(value)])),
    y: niceTicks(low, high, 6).map((value) => [y(value / factor), String(Number(value.toPrecision(6)))]),
  };
  const unit = DATA.metrics[name].percent ? " (%)" : "";
  const readout = el("p", { class: "readout", "aria-live": "polite" }, "Point at or tab to a point to read it.");
  const taken = points.map((row) => [x(row[axis]) - 7, y(row[name]) - 7, x(row[axis]) + 7, y(row[name]) + 7]);
  const drawn = [...points].reverse().map((row) => point(row, name, axis, x, y, readout));
  const several = (row) => points.filter((other) => other.method === row.method).length > 1;
  const labels = points
    .slice(0, LABELLED)
    .map((row) =>
      pointLabel(
        several(row) ? `${row.method} · ${row.stage || row.label}` : row.method,
        x(row[axis]),
        y(row[name]),
        taken,
        size,
      ),
    );
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${size.width} ${size.height}`,
      width: size.width,
      height: size.height,
      role: "group",
      "aria-label": `${metricLabel(name)} against ${AXIS[axis]}`,
    },
    frame(size, ticks, { x: `${AXIS[axis]} (log)`, y: `${metricLabel(name)}${unit} ${arrow(name)}` }),
    drawn,
    labels,
  );
  const focused = [...place.querySelectorAll("a")].indexOf(document.activeElement);
  place.replaceChildren(plotKey(points), picture, readout, notes && el("p", { class: "sub" }, notes));
  if (focused >= 0) picture.querySelectorAll("a")[focused]?.focus();
}

// Ticks that would stand on each other are left out.
function thinned(ticks) {
  let last = -Infinity;
  return ticks.filter(([at]) => at - last >= 44 && ((last = at), true));
}

function plotKey(points) {
  const kinds = new Set(points.map((row) => row.kind));
  const modalities = [...new Set(points.map((row) => row.modality))];
  const icon = (...shapes) => svg("svg", { width: 16, height: 16, "aria-hidden": "true" }, shapes);
  return el(
    "ul",
    { class: "key" },
    kinds.has("measured") &&
      el("li", {}, icon(svg("circle", { cx: 8, cy: 8, r: 5, class: "key-mark" })), "measured; bar: 95 % interval over clips"),
    kinds.has("published") &&
      el("li", {}, icon(svg("path", { d: "M8 2 14 8 8 14 2 8Z", class: "key-mark hollow" })), "published"),
    modalities.map((m) =>
      el("li", {}, icon(svg("rect", { x: 3, y: 3, width: 10, height: 10, rx: 2, class: `m-${m}` })), modalityText(m)),
    ),
  );
}

function point(row, name, axis, x, y, readout) {
  const [at, up] = [x(row[axis]), y(row[name])];
  const text = [
    [isPublished(row) && "published", rowTitle(row), row.stage, row.modality].filter(Boolean).join(", "),
    `${metricLabel(name)} ${shownValue(name, row)} ${spread(name, row)}`.trim(),
    `${amount(row[axis])} ${AXIS[axis]}`,
    row.where,
    ...row.remarks,
  ]
    .filter(Boolean)
    .join("; ");
  const range = isPublished(row) ? null : bounds(name, row);
  const show = () => (readout.textContent = text);
  return svg(
    "a",
    {
      href: isPublished(row) ? route("method", row.method) : route("run", runId(row.newest)),
      class: `point m-${row.modality} ${row.kind}`,
      "aria-label": text,
      onfocus: show,
      onpointerenter: show,
    },
    range &&
      svg("path", {
        class: "bar",
        d: `M${at} ${y(range[0])}V${y(range[1])}M${at - 4} ${y(range[0])}h8M${at - 4} ${y(range[1])}h8`,
      }),
    isPublished(row)
      ? svg("path", { class: "dot hollow", d: `M${at} ${up - 7}l7 7l-7 7l-7 -7Z` })
      : svg("circle", { class: "dot", cx: at, cy: up, r: 5.5 }),
  );
}

// Beside its point where nothing is in the way, or not at all.
function pointLabel(name, x, y, taken, size) {
  const text = name.length > 34 ? `${name.slice(0, 33)}…` : name;
  const width = text.length * 6.6 + 4;
  for (const [left, top] of [
    [x + 10, y - 8],
    [x - 10 - width, y - 8],
    [x - width / 2, y - 26],
    [x - width / 2, y + 12],
  ]) {
    const box = [left, top, left + width, top + 15];
    const inside =
      box[0] > size.left && box[2] < size.width && box[1] > size.top - 8 && box[3] < size.height - size.bottom;
    const free = taken.every(
      (other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3],
    );
    if (inside && free) {
      taken.push(box);
      return svg("text", { class: "label", x: left + 2, y: top + 12, "aria-hidden": "true" }, text);
    }
  }
  return null;
}

// One logged value over the steps; what was validated over the epochs, with the one that was kept.
function curve(name, steps, values, validation) {
  const metric = validation && name.startsWith("val/") ? name.slice(4) : undefined;
  const logged = steps.map((step, i) => [step, values[i]]).filter(([, value]) => value !== null);
  const known = metric === undefined ? logged : overEpochs(logged, metric, validation);
  const unit = metric === undefined ? "step" : "epoch";
  const size = { width: 340, height: 206, left: 56, right: 16, top: 16, bottom: 44 };
  const [xs, ys] = [known.map(([at]) => at), known.map(([, value]) => value)];
  const [first, last, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (at) =>
    last > first ? size.left + ((size.width - size.left - size.right) * (at - first)) / (last - first) : size.width / 2;
  const y = (value) =>
    high > low
      ? size.height - size.bottom - ((size.height - size.top - size.bottom) * (value - low)) / (high - low)
      : (size.top + size.height - size.bottom) / 2;
  const path = known.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const whole = (last > first ? niceTicks(first, last, 4) : [first]).filter(Number.isInteger);
  const ticks = {
    x: whole.map((at) => [x(at), amount(at)]),
    y: (high > low ? niceTicks(low, high, 5) : [low]).map((value) => [y(value), String(Number(value.toPrecision(6)))]),
  };
  const title = metric === undefined ? name : validatedTitle(metric, validation);
  const kept = metric === undefined ? undefined : known.find(([at]) => at === validation.epoch);
  const summary =
    `${title}: from ${amount(ys[0])} at ${unit} ${xs[0]} to ${amount(ys.at(-1))} at ${unit} ${xs.at(-1)}` +
    (kept ? `; epoch ${kept[0]} is kept, ${amount(kept[1])}` : "");
  return el(
    "figure",
    {},
    el("figcaption", {}, title),
    svg(
      "svg",
      { viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": summary },
      frame(size, ticks, { x: unit, y: "" }),
      svg("path", { class: "line", d: path }),
      (metric !== undefined || known.length === 1) &&
        known.map(([at, value]) => svg("circle", { class: "line-dot", cx: x(at), cy: y(value), r: 3 })),
      kept && svg("circle", { class: "kept-dot", cx: x(kept[0]), cy: y(kept[1]), r: 6.5 }),
    ),
    kept && el("p", { class: "sub" }, keptText(metric, kept, validation)),
  );
}

// The last validation is that of the last epoch that was trained, and epochs have equally many steps.
function overEpochs(logged, metric, validation) {
  const steps = logged.at(-1)[0] / validation.epochs;
  const factor = DATA.metrics[metric]?.percent ? 100 : 1;
  return logged.map(([step, value]) => [Math.round(step / steps), value * factor]);
}

function validatedTitle(metric, validation) {
  const unit = DATA.metrics[metric]?.percent ? " (%)" : "";
  const better = DATA.metrics[metric] ? ` ${arrow(metric)}` : "";
  return `${metricLabel(metric)}${unit}${better} on ${validation.data.split}`;
}

function keptText(metric, [epoch, value], validation) {
  const why = validation.keep === "last" ? "the last one" : `the best by ${metricLabel(validation.metric)}`;
  const shown = fixed(value, DATA.metrics[metric]?.decimals ?? 3);
  return `○ epoch ${epoch} is kept: ${shown}` + (metric === validation.metric ? `, ${why}` : "");
}
