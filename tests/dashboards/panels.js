// Draws one dashboard with the rows that its queries returned, and says what of it can be seen.
//
// Lines, bars over time and bands are drawn by uPlot, which Grafana draws them with, from frames that are made as Grafana makes them: a
// result of several columns is one series each, a result with the column metric one for each of its values, and a time at which a series has no
// value cuts its line unless the panel spans nulls. Everything else is plain HTML. The page's data is in #dashboard, the findings go into #report.
"use strict";

const { dashboard, theme } = JSON.parse(document.getElementById("dashboard").textContent);

// Grafana's classic palette, in its order.
const PALETTE = ["#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0"];
const NAMED = { green: "#56a64b", orange: "#ff780a", red: "#e02f44", blue: "#3274d9" };
const GRID = { light: "rgba(0,0,0,0.08)", dark: "rgba(240,250,255,0.09)" }[theme];
const INK = { light: "rgba(36,41,46,0.75)", dark: "rgb(204,204,220)" }[theme];
const CELL = 36, GAP = 8, WIDTH = 1184, COLUMN = (WIDTH + GAP) / 24;

/** What a panel says of one of its fields: its defaults under the overrides of that name. */
function configOf(panel, name) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { ...defaults, custom: { ...defaults.custom } };
  for (const { matcher, properties } of overrides) {
    if (matcher.id !== "byName" || matcher.options !== name) continue;
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) config.custom[id.slice(7)] = value;
      else config[id] = value;
    }
  }
  return config;
}

/** A number or a time as Grafana writes it. */
function written(value, config) {
  if (value === null || value === undefined) return "";
  const mapped = (config.mappings ?? []).find((mapping) => mapping.type === "value")?.options?.[String(value)];
  if (mapped) return mapped.text;
  if (typeof value === "boolean") return String(value);
  if (typeof value === "string") {
    const time = /^\d{4}-\d\d-\d\dT/.test(value) ? new Date(value) : null;
    if (!time) return value;
    if (config.unit === "dateTimeFromNow") {
      const minutes = Math.round((Date.now() - time) / 60000);
      return minutes < 0 ? `in ${-minutes} minutes` : `${minutes} minutes ago`;
    }
    return time.toISOString().slice(0, 16).replace("T", " ");
  }
  if (typeof value !== "number") return JSON.stringify(value);
  const short = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  const digits = (number, most) => (config.decimals === undefined ? short(number.toFixed(most)) : number.toFixed(config.decimals));
  const plain = (number) => digits(number, Number.isInteger(number) ? 0 : Math.abs(number) >= 1000 ? 0 : Math.abs(number) >= 10 ? 2 : 3);
  switch (config.unit) {
    case "percentunit": return `${digits(100 * value, 1)}%`;
    case "bytes": return value >= 2 ** 30 ? `${plain(value / 2 ** 30)} GiB` : value >= 2 ** 20 ? `${plain(value / 2 ** 20)} MiB` : `${plain(value)} B`;
    case "ms": return value >= 1000 ? `${plain(value / 1000)} s` : `${plain(value)} ms`;
    case "s": return value >= 3600 ? `${plain(value / 3600)} hours` : value >= 60 ? `${plain(value / 60)} min` : `${plain(value)} s`;
    default: return plain(value);
  }
}

/** The columns of a time series as one frame: seconds, then the values of each series. */
function frame(rows, columns) {
  const seconds = (time) => (typeof time === "number" ? time : Date.parse(time) / 1000);
  const times = [...new Set(rows.map((row) => seconds(row.time)))].sort((a, b) => a - b);
  const place = new Map(times.map((time, index) => [time, index]));
  const series = new Map();
  const put = (name, row, value) => {
    if (!series.has(name)) series.set(name, new Array(times.length).fill(null));
    if (value !== null) series.get(name)[place.get(seconds(row.time))] = value;
  };
  const values = columns.filter((name) => name !== "time" && name !== "metric");
  if (columns.includes("metric")) {
    for (const row of rows) put(row.metric, row, row[values[0]]);
    return { names: [...series.keys()], data: [times, ...series.values()] };
  }
  // Not joined by time: two rows of one time are two points to Grafana, which is what cuts lines.
  return { names: values, data: [rows.map((row) => seconds(row.time)), ...values.map((name) => rows.map((row) => row[name]))] };
}

function element(parent, tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function colourOf(config, index) {
  return config.color?.mode === "fixed" ? NAMED[config.color.fixedColor] ?? config.color.fixedColor : PALETTE[index % PALETTE.length];
}

function faded(colour, percent) {
  return colour + Math.round(2.55 * percent).toString(16).padStart(2, "0");
}

/** What uPlot draws of a frame; `only` hides every other series, and what is no line of it. */
function options(panel, names, size, only) {
  const configs = names.map((name) => configOf(panel, name));
  const series = configs.map((config, index) => {
    const custom = config.custom, colour = colourOf(config, index), bars = custom.drawStyle === "bars";
    const seen = only === undefined || only.includes(index);
    return {
      label: names[index],
      show: seen,
      stroke: custom.lineWidth > 0 ? colour : "transparent",
      width: custom.lineWidth,
      dash: only === undefined && custom.lineStyle?.fill === "dash" ? custom.lineStyle.dash : undefined,
      fill: bars ? faded(colour, custom.fillOpacity) : undefined,
      paths: bars ? uPlot.paths.bars({ size: [0.6, 20] }) : undefined,
      spanGaps: custom.spanNulls === true,
      points: only !== undefined || custom.showPoints === "never" ? { show: false } : { show: custom.showPoints === "always" ? true : undefined, size: 5 },
    };
  });
  const bands = configs.flatMap((config, index) => {
    const below = names.indexOf(config.custom.fillBelowTo);
    return below < 0 ? [] : [{ series: [index + 1, below + 1], fill: faded(colourOf(config, index), config.custom.fillOpacity) }];
  });
  const axis = { stroke: INK, grid: { show: only === undefined, stroke: GRID, width: 1 }, ticks: { stroke: GRID, width: 1 }, font: "11px Inter, 'DejaVu Sans', sans-serif" };
  const clock = (seconds) => new Date(1e3 * seconds).toISOString();
  const moment = (seconds, step) => (step >= 86400 || seconds % 86400 === 0 ? clock(seconds).slice(5, 10) : clock(seconds).slice(11, 16));
  const times = (_, ticks, __, ___, step) => ticks.map((seconds) => moment(seconds, step));
  const unit = configs[0] ?? panel.fieldConfig.defaults;
  const { min, max } = panel.fieldConfig.defaults;
  return {
    ...size,
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "UTC"),
    legend: { show: false },
    cursor: { show: false },
    scales: min === undefined || max === undefined ? {} : { y: { range: [min, max] } },
    axes: [{ ...axis, values: times }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => written(tick, { ...unit, decimals: undefined })) }],
    series: [{}, ...series],
    bands,
    hooks: only === undefined ? { draw: [markEvents] } : {},
  };
}

/** Annotations as Grafana draws them: a dashed line at each time, with a mark below. */
function markEvents(plot) {
  const { left, top, width, height } = plot.bbox, context = plot.ctx;
  context.save();
  context.strokeStyle = context.fillStyle = NAMED.orange;
  context.setLineDash([4, 4]);
  for (const { time } of dashboard.annotations) {
    const at = Math.round(plot.valToPos(Date.parse(time) / 1000, "x", true));
    if (at < left || at > left + width) continue;
    context.beginPath();
    context.moveTo(at, top);
    context.lineTo(at, top + height);
    context.stroke();
    context.fillRect(at - 3, top + height - 5, 6, 5);
  }
  context.restore();
}

/** How many columns of pixels between the first and the last value of a series have nothing drawn in them. */
function missingColumns(panel, names, data, only, values) {
  const hidden = element(document.body, "div", "hidden");
  const plot = new uPlot(options(panel, names, { width: 700, height: 240 }, only), data, hidden);
  return () => {
    const at = values.flatMap((value, index) => (value === null ? [] : [Math.round(plot.valToPos(data[0][index], "x", true))]));
    const { left, top, width, height } = plot.bbox;
    const pixels = plot.ctx.getImageData(left, top, width, height).data;
    let missing = 0;
    // The axes are drawn outside of the plot and the grid inside: a line is what is not as faint as the grid.
    for (let x = at[0]; x <= at[at.length - 1]; x += 1) {
      let seen = false;
      for (let y = 0; y < height && !seen; y += 1) seen = pixels[4 * (y * width + Math.min(x - left, width - 1)) + 3] > 30;
      missing += seen ? 0 : 1;
    }
    hidden.remove();
    return missing;
  };
}

/** Names beside their colours; a field may have another name than its column, or none. */
function legend(panel, body, names) {
  const made = element(body, "div", "legend");
  names.forEach((name, index) => {
    const config = configOf(panel, name);
    if (config.custom.hideFrom?.legend) return;
    const entry = element(made, "span", "", config.displayName ?? name);
    const mark = document.createElement("i");
    mark.style.background = colourOf(config, index);
    entry.prepend(mark);
  });
}

function timeseries(panel, body, rows, columns, size) {
  const { names, data } = frame(rows, columns);
  new uPlot(options(panel, names, { width: size.width, height: size.height - 26 }), data, body);
  legend(panel, body, names);
  const lines = names.flatMap((name, index) => {
    const { custom } = configOf(panel, name), values = data[index + 1];
    const points = values.filter((value) => value !== null).length;
    if (custom.drawStyle !== "line" || custom.lineWidth === 0 || points < 2) return [];
    return [{ name, points, missing: missingColumns(panel, names, data, [index], values) }];
  });
  const bands = names.flatMap((name, index) => {
    const below = names.indexOf(configOf(panel, name).custom.fillBelowTo);
    if (below < 0) return [];
    const values = data[index + 1].map((upper, at) => (upper === null || data[below + 1][at] === null ? null : upper));
    const points = values.filter((value) => value !== null).length;
    return points < 2 ? [] : [{ name: `${names[below]} to ${name}`, points, missing: missingColumns(panel, names, data, [index, below], values) }];
  });
  return { series: data.slice(1).filter((values) => values.some((value) => value !== null)).length, times: data[0], lines, bands };
}

function barchart(panel, body, rows, columns, size) {
  const [label] = columns.filter((name) => name === panel.options.xField || typeof rows[0][name] === "string");
  const names = columns.filter((name) => name !== label && rows.some((row) => typeof row[name] === "number"));
  const most = Math.max(...rows.flatMap((row) => names.map((name) => row[name] ?? 0)), 1e-9);
  const field = element(body, "div", "bars");
  field.style.height = `${size.height - 44}px`;
  for (const row of rows) {
    const group = element(field, "div", "group");
    names.forEach((name, index) => {
      const bar = element(group, "div", "bar");
      bar.style.height = `${(100 * (row[name] ?? 0)) / most}%`;
      bar.style.background = colourOf(configOf(panel, name), index);
      bar.title = written(row[name], configOf(panel, name));
    });
    element(group, "span", "", row[label]);
  }
  legend(panel, body, names);
  return { series: names.length };
}

function stat(panel, body, rows, columns) {
  const name = columns.filter((column) => column !== "metric" && column !== "time").pop() ?? columns[0];
  const shown = rows.slice(0, 4).map((row) => ({ name: row.metric, value: row[name], config: configOf(panel, name) }));
  const field = element(body, "div", "stat");
  for (const { name, value, config } of shown) {
    const entry = element(field, "div", "");
    if (shown.length > 1 && name) element(entry, "small", "", name);
    const steps = config.thresholds?.steps ?? [];
    const step = steps.filter((step) => step.value === null || value >= step.value).pop();
    const text = element(entry, "b", shown.length > 1 ? "several" : "", written(value, config));
    text.style.color = NAMED[step?.color] ?? INK;
  }
  return { series: shown.length };
}

function table(panel, body, rows, names) {
  const made = element(body, "table", "");
  const head = element(made, "tr", "");
  for (const name of names) element(head, "th", "", name);
  for (const row of rows.slice(0, 100)) {
    const line = element(made, "tr", "");
    for (const name of names) element(line, "td", typeof row[name] === "number" ? "number" : "", written(row[name], configOf(panel, name)));
  }
  return { series: names.length };
}

const DRAW = { timeseries, barchart, stat, table };
const page = element(document.body, "main", theme);
element(page, "h1", "", dashboard.title);
const field = element(page, "section", "");
let bottom = 0;
const drawn = dashboard.panels.map(({ panel, title, columns, rows }) => {
  const { x, y, w, h } = panel.gridPos;
  const box = element(field, "article", "");
  const size = { width: w * COLUMN - GAP, height: h * CELL - GAP };
  Object.assign(box.style, { left: `${x * COLUMN}px`, top: `${y * CELL}px`, width: `${size.width}px`, height: `${size.height}px` });
  bottom = Math.max(bottom, (y + h) * CELL);
  element(box, "h2", "", title);
  const body = element(box, "div", "body");
  const inner = { width: size.width - 18, height: size.height - 34 };
  if (rows.length === 0) element(body, "p", "nothing", panel.fieldConfig.defaults.noValue);
  return { title, type: panel.type, rows: rows.length, ...(rows.length > 0 ? DRAW[panel.type](panel, body, rows, columns, inner) : {}) };
});
field.style.height = `${bottom}px`;

// uPlot draws in a microtask; what it has drawn can be looked at after that.
setTimeout(() => {
  const seen = ({ missing, ...mark }) => ({ ...mark, missing: missing() });
  const report = drawn.map((panel) => ({ ...panel, lines: panel.lines?.map(seen), bands: panel.bands?.map(seen) }));
  element(document.body, "script", "", JSON.stringify(report)).id = "report";
  document.getElementById("report").type = "application/json";
}, 0);
