// The status page: asks /v1/status every second and draws it. The document's shape is docs/status-json.md.
// Text reaches the page through textContent and attributes only, so that no name can be markup.
"use strict";

const POLL_MS = 1000;
const POLL_HIDDEN_MS = 15000;
const RETRY_MAX_MS = 5000;
const ANSWER_MS = 4000;
/** After this long without an answer the figures are shown as old. */
const STALE_SECONDS = 5;
/** What the plots hold: an hour of history, then what the page sees itself. */
const MAX_SAMPLES = 3600;
const MAX_EVENTS = 100;
const COLOURS = 8;
/** New sessions keep a node under this multiple of the mean. */
const BOUND = 1.25;

/** What a process that knows less leaves out. */
const UNKNOWN = {
  chain: null, cluster_id: null, leader: null, term: null, quorum: false, voters: null, voters_up: null, margin: null,
  can_lose_one: false, because: null, ledger: null, nodes: [], proxies: [], bitcoin: null, sessions: null, hashrate: null,
  shares: null, round: null, blocks: [], moves: null, drains: [], not_ready: [],
};

const page = {
  status: null,
  answeredAt: 0,
  failures: 0,
  interval: 10,
  samples: [],
  reasons: [],
  headers: [],
  marks: [],
  events: 0,
  theme: "auto",
  asking: false,
};

const byId = (id) => document.getElementById(id);

// ---- Asking ----

async function ask(path) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), ANSWER_MS);
  try {
    const answer = await fetch(path, { signal: giveUp.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    return await answer.json();
  } finally {
    clearTimeout(timer);
  }
}

async function poll() {
  if (page.asking) return;
  page.asking = true;
  try {
    const status = { ...UNKNOWN, ...await ask("v1/status") };
    if (status.format !== 1) throw new Error(`status format ${status.format} is newer than this page: reload it`);
    const before = page.status;
    // A process that was replaced counts from zero again, and knows its own past.
    if (!before || before.started !== status.started || page.failures > 5) await readHistory();
    page.failures = 0;
    page.answeredAt = performance.now();
    page.status = status;
    remember(status);
    if (before) compare(before, status);
    draw(status);
  } catch (error) {
    page.failures += 1;
    page.trouble = error.name === "AbortError" ? "no answer in time" : error.message;
  }
  page.asking = false;
  drawLive();
  const pause = document.hidden ? POLL_HIDDEN_MS : Math.min(POLL_MS * Math.max(1, page.failures), RETRY_MAX_MS);
  clearTimeout(page.timer);
  page.timer = setTimeout(poll, pause);
}

async function readHistory() {
  try {
    const history = await ask("v1/history");
    page.interval = history.interval;
    page.samples = history.samples.map(([time, sessions, hashrate, accepted, rejected]) => ({ time, sessions, hashrate, accepted, rejected }));
  } catch {
    // Without a history the plots start now.
  }
}

function remember(status) {
  const rejected = status.shares ? total(Object.values(status.shares.rejected)) : null;
  const sample = {
    time: status.time, sessions: status.sessions, hashrate: status.hashrate,
    accepted: status.shares?.accepted ?? null, rejected,
  };
  const last = page.samples.at(-1);
  if (!last || sample.time > last.time) page.samples.push(sample);
  if (page.samples.length > MAX_SAMPLES) page.samples.splice(0, page.samples.length - MAX_SAMPLES);
  if (status.shares) page.reasons.push({ time: status.time, started: status.started, shares: status.shares });
  page.reasons = page.reasons.filter((r) => r.time > status.time - 60.5 && r.started === status.started);
  if (status.bitcoin) page.headers.push({ time: status.time, progress: status.bitcoin.progress });
  page.headers = page.headers.filter((h) => h.time > status.time - 120);
}

// ---- What changed ----

function compare(before, now) {
  const say = (state, text, mark = false) => addEvent(now.time, state, text, mark);
  if (before.leader !== now.leader) {
    if (now.leader) say("", `${now.leader} leads${before.leader ? `, it was ${before.leader}` : ""}`, true);
    else say("bad", "No leader is known", true);
  }
  if (before.quorum !== now.quorum) say(now.quorum ? "ok" : "bad", now.quorum ? "Quorum is back" : "Quorum is lost", true);
  if (before.can_lose_one && !now.can_lose_one) say("warn", `No node can be lost now: ${now.because}`);
  if (!before.can_lose_one && now.can_lose_one) say("ok", "One node can be lost again");
  members(before.nodes, now.nodes, say);
  members(before.proxies, now.proxies, say);
  const old = new Map(before.drains.map((d) => [`${d.name} ${d.started}`, d]));
  for (const drain of now.drains) {
    const was = old.get(`${drain.name} ${drain.started}`);
    if (!was && drain.ended === null) say("warn", `${drain.name} drains ${count(drain.sessions)} sessions`, true);
    if (drain.ended !== null && (!was || was.ended === null)) {
      const lost = drain.lost ? `, ${count(drain.lost)} lost` : ", none lost";
      say(drain.lost ? "bad" : "ok", `${drain.name} is drained in ${seconds(drain.ended - drain.started)}${lost}`);
    }
  }
  const known = new Map(before.blocks.map((b) => [b.hash, b.status]));
  for (const block of now.blocks) {
    if (!known.has(block.hash)) {
      if (block.height > Math.max(0, ...before.blocks.map((b) => b.height)))
        say("ok", `Block ${count(block.height)} found by ${block.user} on ${block.node}`, true);
    } else if (known.get(block.hash) !== block.status) {
      say(block.status === "orphaned" ? "bad" : "ok", `Block ${count(block.height)} is ${block.status}`);
    }
  }
}

function members(before, now, say) {
  const old = new Map(before.map((m) => [m.name, m]));
  for (const member of now) {
    const was = old.get(member.name);
    old.delete(member.name);
    if (!was) say("", `${member.name} joined`);
    else if (was.up !== member.up) say(member.up ? "ok" : "bad", member.up ? `${member.name} is back` : `${member.name} is gone`, true);
    else if (member.up && was.ready && member.ready === false && !member.draining) say("warn", `${member.name} is not ready${reasons(member)}`);
    else if (member.up && was.ready === false && member.ready) say("ok", `${member.name} is ready`);
  }
  for (const name of old.keys()) say("", `${name} was removed`);
}

function addEvent(time, state, text, mark) {
  const list = byId("events");
  if (!page.events) list.replaceChildren();
  page.events += 1;
  const item = make("li", { "data-state": state }, make("time", {}, clock(time)), make("span", {}, text));
  list.prepend(item);
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
  if (mark) page.marks.push({ time, text });
  if (page.marks.length > MAX_EVENTS) page.marks.shift();
}

// ---- Drawing ----

function draw(s) {
  byId("main").removeAttribute("aria-busy");
  document.title = `${s.can_lose_one ? "" : s.quorum ? "⚠ " : "✖ "}${s.name} · Seam`;
  setText("name", s.name);
  setText("kind", s.kind);
  badge("chain", s.chain, "");
  badge("self", ...selfState(s));
  drawVerdict(s);
  drawTiles(s);
  drawSync(s.bitcoin);
  drawDrains(s);
  drawRing(s);
  drawNodes(s);
  drawProxies(s);
  for (const plot of plots) plot.draw();
  drawShares(s);
  drawBlocks(s);
  focusScrollable();
  setText("version", `Seam ${s.version}`);
  setText("uptime", `up ${span(s.time - s.started)}${s.cluster_id ? ` · cluster ${s.cluster_id}` : ""}`);
}

function drawLive() {
  const silent = page.answeredAt ? (performance.now() - page.answeredAt) / 1000 : Infinity;
  const stale = page.failures > 0 && silent > STALE_SECONDS;
  byId("live").dataset.state = stale || (page.failures && !page.status) ? "bad" : page.status ? "ok" : "wait";
  setText("live-text", stale || (page.failures && !page.status) ? "no answer" : page.status ? "live" : "connecting…");
  byId("main").toggleAttribute("data-stale", stale);
  const trouble = byId("trouble");
  if (stale || (page.failures > 1 && !page.status)) {
    const age = Number.isFinite(silent) ? ` The figures below are ${span(silent)} old.` : "";
    setText("trouble", `No answer from ${page.status?.name ?? "this process"} (${page.trouble}).${age} Trying again.`);
    trouble.hidden = false;
  } else trouble.hidden = true;
}

function selfState(s) {
  if (s.draining) return ["draining", "warn"];
  if (s.ready) return ["ready", "ok"];
  return [`not ready${reasons(s)}`, "bad"];
}

const ICONS = { ok: "M4.5 12.5l5 5 10-11", warn: "M12 4v10M12 19v.5", bad: "M6 6l12 12M18 6L6 18" };

function drawVerdict(s) {
  const state = s.can_lose_one ? "ok" : s.quorum ? "warn" : "bad";
  byId("verdict").dataset.state = state;
  byId("verdict-icon").setAttribute("d", ICONS[state]);
  setText("answer", s.can_lose_one ? "Yes" : "No");
  setText("because", sentence(s.because ?? "", s.nodes));
  keep(byId("voters"), s.nodes.filter((n) => n.role !== "learner"), (n) => {
    const [word, colour] = memberState(n);
    return make("li", { "data-state": colour }, make("span", {}, n.name),
      n.name === s.leader ? make("b", {}, "leader") : "", colour === "ok" ? "" : word);
  });
  const parts = [];
  if (s.voters !== null) {
    const need = Math.floor(s.voters / 2) + 1;
    parts.push(`${s.voters_up ?? "?"} of ${s.voters} voters up, ${need} needed`);
    if (s.margin !== null) parts.push(s.margin < 0 ? `${-s.margin} missing for a quorum` : `margin ${s.margin}`);
  }
  if (s.leader || s.kind === "node") parts.push(s.leader ? `leader ${s.leader}` : "no leader");
  if (s.term !== null) parts.push(`term ${s.term}`);
  setText("quorum", parts.join(" · "));
}

function drawTiles(s) {
  setText("tile-sessions", count(s.sessions));
  const elsewhere = total(s.nodes.map((n) => n.sessions ?? 0));
  const together = total(s.nodes.map((n) => n.hashrate ?? 0));
  const held = total(s.proxies.map((p) => p.held ?? 0));
  setText("tile-sessions-note", held ? `${count(held)} held, waiting for a node`
    : s.kind === "node" && elsewhere > s.sessions ? `${count(elsewhere)} in the cluster` : s.kind === "proxy" ? "through this proxy" : "on this node");
  const nodesTell = s.nodes.some((n) => n.hashrate != null);
  setText("tile-hashrate", scaled(s.hashrate ?? (nodesTell ? together : null), "H/s"));
  setText("tile-hashrate-note", s.hashrate === null ? (nodesTell ? "of all nodes" : "counted by the nodes")
    : together > s.hashrate ? `${scaled(together, "H/s")} in the cluster` : "over the last minute");
  const rate = perSecond();
  setText("tile-shares", rate === null ? "–" : `${short(rate.accepted)} /s`);
  setText("tile-shares-note", rate === null ? "" : rate.rejected > 0 ? `${percent(rate.rejected / (rate.accepted + rate.rejected))} rejected` : "none rejected");
  setText("tile-round", s.round ? `${short(s.round.shares)}` : "–");
  setText("tile-round-note", s.round ? `shares · ${work(s.round.work)} · ${plural(s.round.users, "user")}` : "");
  const b = s.bitcoin;
  const height = b?.height ?? Math.max(...s.nodes.map((n) => n.height ?? -1));
  setText("tile-height", height >= 0 && Number.isFinite(height) ? count(height) : "–");
  setText("tile-height-note", b ? `tip ${span(Math.max(0, s.time - b.tip_time))} old · ${plural(b.peers, "peer")}` : "highest of the nodes");
  setText("tile-ledger", s.ledger ? count(s.ledger.index) : "–");
  setText("tile-ledger-note", s.ledger ? `hash ${s.ledger.hash.slice(0, 10)}…` : "");
}

function drawSync(b) {
  const section = byId("sync");
  section.hidden = !b || (!b.initial_download && b.headers - b.height < 3);
  if (section.hidden) return;
  const part = Math.min(1, Math.max(0, b.progress));
  byId("sync-bar").value = part;
  setText("sync-percent", percent(part, 2));
  const first = page.headers[0];
  const last = page.headers.at(-1);
  const slope = last && last.time - first.time > 5 ? (last.progress - first.progress) / (last.time - first.time) : 0;
  const left = slope > 0 ? ` · about ${span((1 - part) / slope)} left` : "";
  setText("sync-note", `${count(b.height)} of ${count(Math.max(b.headers, b.height))} blocks · ${plural(b.peers, "peer")}${left}`);
}

function drawDrains(s) {
  // One that ended long ago is history, not news.
  const drains = s.drains.filter((d) => d.ended === null || s.time - d.ended < 600);
  byId("drains").hidden = drains.length === 0;
  keep(byId("drain-list"), drains, (d) => {
    const done = d.ended !== null;
    const moved = d.sessions - d.left;
    const bar = make("progress", { max: Math.max(1, d.sessions), value: d.sessions ? moved : 1, "aria-label": `Drain of ${d.name}`,
      class: d.lost ? "lost" : done ? "done" : "" });
    const time = done ? `took ${seconds(d.ended - d.started)}, ended ${span(s.time - d.ended)} ago` : `${seconds(Math.max(0, s.time - d.started))} so far`;
    const losses = [d.recoverable ? `${count(d.recoverable)} still on it` : "", d.lost ? `${count(d.lost)} lost` : "none lost"].filter(Boolean).join(", ");
    return make("li", {}, make("p", {}, make("b", {}, d.name), make("span", {}, `${count(moved)} of ${count(d.sessions)} sessions moved, ${losses} · ${time}`)),
      make("div", { class: "bar" }, bar, make("b", {}, d.sessions ? percent(moved / d.sessions) : "100%")));
  });
}

const TURN = 2 * Math.PI;

function drawRing(s) {
  const nodes = byName(s.nodes);
  // A node that is gone has no sessions, whatever it said last.
  const spread = nodes.every((n) => n.sessions != null || !n.up);
  const sessions = spread ? total(nodes.map((n) => n.sessions ?? 0)) : s.sessions ?? 0;
  const parted = nodes.some((n) => n.ring != null);
  const on = nodes.filter(mayBeOnRing).length;
  const ring = nodes.map((n) => (parted ? n.ring ?? 0 : mayBeOnRing(n) ? 1 / on : 0));
  const shapes = [
    shape("circle", { class: "track", cx: 120, cy: 120, r: 100, "stroke-width": 24 }),
    shape("circle", { class: "track", cx: 120, cy: 120, r: 76, "stroke-width": 8 }),
    ...arcs(ring, 100, 24), ...arcs(nodes.map((n) => (spread && sessions ? (n.sessions ?? 0) / sessions : 0)), 76, 8),
    shape("text", { x: 120, y: 124 }, sessions < 100000 ? count(sessions) : short(sessions)),
    shape("text", { x: 120, y: 144, class: "small" }, `${sessions === 1 ? "session" : "sessions"}${spread ? "" : " here"}`),
  ];
  const svg = byId("ring");
  svg.setAttribute("aria-label", `The ring: ${nodes.map((n, i) => `${n.name} ${percent(ring[i])}`).join(", ")}`);
  svg.removeAttribute("aria-labelledby");
  keepOne(svg, shapes);
  const live = nodes.filter((n, i) => ring[i] > 0 || n.sessions > 0).length;
  keep(byId("ring-legend"), nodes, (n) => {
    const i = nodes.indexOf(n);
    const off = ring[i] === 0;
    const load = spread && live && sessions ? (n.sessions ?? 0) / (sessions / live) : null;
    const detail = [n.sessions == null ? "" : plural(n.sessions, "session"), n.hashrate == null ? "" : scaled(n.hashrate, "H/s"), off ? `off the ring: ${whyOff(n)}`
      : load === null ? "" : `${load.toFixed(2)} × mean${load > BOUND ? ", over the bound" : ""}`];
    const li = make("li", off ? { "data-off": "" } : {}, make("i", {}), make("b", {}, n.name),
      make("b", {}, off ? "0%" : `${parted ? "" : "about "}${percent(ring[i], parted ? 1 : 0)}`), make("span", {}, detail.filter(Boolean).join(" · ")));
    li.firstChild.style.background = colour(i);
    return li;
  });
  setText("ring-note", spread ? "Outer band: part of the ring. Inner band: sessions now. A node takes new sessions up to 1.25 × the mean."
    : "Parts of the ring. A node has not said yet how many sessions it has.");
}

const mayBeOnRing = (n) => n.up && n.ready !== false && !n.draining && n.role !== "learner";

function whyOff(n) {
  if (!n.up) return "gone";
  if (n.draining) return "draining";
  return n.role === "learner" ? "is catching up" : `not ready${reasons(n)}`;
}

function arcs(parts, radius, width) {
  let from = 0;
  const gap = parts.filter((p) => p > 0).length > 1 ? 0.9 / radius : 0;
  return parts.map((part, i) => {
    const start = from * TURN + gap;
    const end = (from + Math.min(part, 0.9999)) * TURN - gap;
    from += part;
    if (end <= start) return null;
    const point = (a) => `${(120 + radius * Math.sin(a)).toFixed(2)} ${(120 - radius * Math.cos(a)).toFixed(2)}`;
    const path = shape("path", { d: `M${point(start)}A${radius} ${radius} 0 ${end - start > Math.PI ? 1 : 0} 1 ${point(end)}`, "stroke-width": width });
    path.style.stroke = colour(i);
    return path;
  }).filter(Boolean);
}

function drawNodes(s) {
  const nodes = byName(s.nodes);
  rows("nodes", nodes, (n, i = nodes.indexOf(n)) => {
    const name = make("th", { scope: "row" }, make("i", { class: "swatch" }), n.name);
    name.firstChild.style.background = colour(i);
    const tip = Math.max(...nodes.map((m) => m.height ?? 0));
    const behind = n.height != null && n.height < tip ? ` (−${tip - n.height})` : "";
    return [name, cell(n.role), cell(stateBadge(n)), cell(count(n.sessions), "n"),
      cell(n.hashrate == null ? "–" : scaled(n.hashrate, "H/s"), "n"), cell(n.height == null ? "–" : count(n.height) + behind, "n"), cell(count(n.lag), "n")];
  }, 7, "No node is known: the cluster has not been formed yet.");
}

function drawProxies(s) {
  rows("proxies", byName(s.proxies), (p) =>
    [make("th", { scope: "row" }, p.name), cell(stateBadge(p)), cell(count(p.sessions), "n"), cell(count(p.held), "n")], 4, "No proxy is linked.");
}

function drawShares(s) {
  const table = byId("shares");
  table.closest("section").hidden = !s.shares;
  if (!s.shares) return;
  const all = [["accepted", s.shares.accepted], ...Object.entries(s.shares.rejected).sort((a, b) => b[1] - a[1])];
  const sum = total(all.map(([, n]) => n));
  const first = page.reasons[0]?.shares;
  const recent = (reason, n) => (first ? n - (reason === "accepted" ? first.accepted : first.rejected[reason] ?? 0) : null);
  setText("shares-recent", `Last ${Math.max(1, Math.round(s.time - (page.reasons[0]?.time ?? s.time)))} s`);
  rows("shares", all, ([reason, n]) => {
    const fill = make("i", { class: n === 0 ? "nil" : reason === "accepted" ? "ok" : "" });
    fill.style.width = `${sum ? (100 * n) / sum : 0}%`;
    const bar = make("div", { class: "share-bar", "aria-hidden": "true" }, fill);
    return [make("th", { scope: "row" }, reason.replaceAll("_", " "), bar), cell(count(recent(reason, n)), "n"), cell(count(n), "n"), cell(sum ? percent(n / sum, 2) : "–", "n")];
  }, 4, "");
  const m = s.moves;
  byId("moves").hidden = !m;
  if (m) setText("moves", `Sessions moved between nodes: ${count(m.moved)} · recoverable: ${count(m.recoverable)} · lost: ${count(m.lost)}`);
}

function drawBlocks(s) {
  rows("blocks", s.blocks, (b) => [
    make("th", { scope: "row", class: "n" }, count(b.height)),
    cell(make("span", { class: "badge", "data-state": b.status }, b.status)),
    cell(make("time", { datetime: new Date(b.time * 1000).toISOString(), title: new Date(b.time * 1000).toLocaleString() }, `${span(Math.max(0, s.time - b.time))} ago`)),
    cell(b.user ?? "–"), cell(b.node ?? "–"),
    cell(b.reward == null ? "–" : `${(b.reward / 1e8).toFixed(8)}`, "n"),
    cell(count(b.shares), "n"), cell(work(b.work), "n"),
    cell(make("code", { title: b.hash }, `…${b.hash.slice(-12)}`)),
  ], 9, "No block yet.");
}

function stateBadge(member) {
  const [word, state] = memberState(member);
  return make("span", { class: "badge", "data-state": state }, word);
}

function memberState(m) {
  if (!m.up) return ["gone", "bad"];
  if (m.draining) return ["draining", "warn"];
  if (m.ready === false) return [`not ready${reasons(m)}`, "warn"];
  // It can be reached, and has said nothing for a while.
  if (m.ready == null) return [m.age == null ? "up" : `up, silent for ${span(m.age)}`, m.age == null ? "ok" : "warn"];
  return ["ready", "ok"];
}

function reasons(m) {
  const known = (m.not_ready ?? []).filter((reason) => reason !== "unknown");
  return known.length ? `: ${known.join(", ")}` : "";
}

// ---- Plots ----

/** One series of `page.samples` over time, readable with the pointer and with the arrow keys. */
class Plot {
  constructor(id, key, format) {
    this.svg = byId(id);
    this.read = byId(`${id}-read`);
    this.key = key;
    this.format = format;
    this.at = null;
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener("pointermove", (e) => this.point(e.offsetX));
    this.svg.addEventListener("pointerdown", (e) => this.point(e.offsetX));
    this.svg.addEventListener("pointerleave", () => this.select(null));
    this.svg.addEventListener("blur", () => this.select(null));
    this.svg.addEventListener("keydown", (e) => this.keyDown(e));
  }

  points() {
    return page.samples.filter((p) => p[this.key] !== null && p[this.key] !== undefined);
  }

  draw() {
    const points = this.points();
    const { width, height } = this.svg.getBoundingClientRect();
    this.svg.closest("section").hidden = page.status !== null && page.status[this.key] === null;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (points.length < 2) {
      this.svg.replaceChildren(shape("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Waiting for two samples"));
      return;
    }
    const top = nice(Math.max(...points.map((p) => p[this.key])));
    const box = { left: 8 + 7 * Math.max(...[0, top / 2, top].map((v) => this.format(v).length)), right: width - 6, top: 10, bottom: height - 22 };
    const [t0, t1] = [points[0].time, points.at(-1).time];
    const x = (t) => box.left + ((t - t0) / (t1 - t0)) * (box.right - box.left);
    const y = (v) => box.bottom - (v / top) * (box.bottom - box.top);
    this.scale = { x, points };
    const shapes = [];
    for (const value of [0, top / 2, top]) {
      shapes.push(shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
      shapes.push(shape("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, this.format(value)));
    }
    for (const [time, label] of ticks(t0, t1, (box.right - box.left) / 90)) {
      shapes.push(shape("text", { x: x(time), y: height - 5, "text-anchor": "middle" }, label));
    }
    for (const mark of page.marks) {
      if (mark.time <= t0 || mark.time > t1) continue;
      const line = shape("line", { class: "mark", x1: x(mark.time), x2: x(mark.time), y1: box.top, y2: box.bottom });
      line.append(shape("title", {}, mark.text));
      shapes.push(line);
    }
    // Where samples are missing the line is broken, not drawn through.
    for (const run of runs(points, 3 * page.interval)) {
      const line = thin(run, Math.ceil(width / 2)).map((p) => `${x(p.time).toFixed(1)} ${y(p[this.key]).toFixed(1)}`);
      shapes.push(shape("path", { class: "area", d: `M${x(run[0].time)} ${box.bottom}L${line.join("L")}L${x(run.at(-1).time)} ${box.bottom}Z` }));
      shapes.push(shape("path", { class: "curve", d: `M${line.join("L")}` }));
    }
    const picked = this.at === null ? points.at(-1) : nearest(points, this.at);
    if (this.at !== null) shapes.push(shape("line", { class: "cross", x1: x(picked.time), x2: x(picked.time), y1: box.top, y2: box.bottom }));
    shapes.push(shape("circle", { class: "dot", cx: x(picked.time), cy: y(picked[this.key]), r: 4.5 }));
    this.svg.replaceChildren(...shapes);
    this.read.textContent = `${this.format(picked[this.key])}${this.at === null ? "" : ` at ${clock(picked.time)}`}`;
    this.svg.removeAttribute("aria-labelledby");
    const values = points.map((p) => p[this.key]);
    this.svg.setAttribute("aria-label", `${this.svg.closest("section").querySelector("h2").textContent}: now ${this.format(values.at(-1))}, `
      + `lowest ${this.format(Math.min(...values))}, highest ${this.format(Math.max(...values))} over ${span(t1 - t0)}`);
  }

  point(offset) {
    if (!this.scale) return;
    const { x, points } = this.scale;
    let best = points[0];
    for (const p of points) if (Math.abs(x(p.time) - offset) < Math.abs(x(best.time) - offset)) best = p;
    this.select(best.time);
  }

  keyDown(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") return this.select(null);
    if (step === undefined || !this.scale) return;
    event.preventDefault();
    const points = this.points();
    const from = this.at === null ? points.length - 1 : points.indexOf(nearest(points, this.at));
    this.select(points[Math.min(points.length - 1, Math.max(0, from + step))].time);
  }

  select(time) {
    if (this.at === time) return;
    this.at = time;
    this.draw();
  }
}

/** Splits where more than `gap` seconds are missing. */
function runs(points, gap) {
  const found = [[points[0]]];
  for (let i = 1; i < points.length; i += 1) {
    if (points[i].time - points[i - 1].time > gap) found.push([]);
    found.at(-1).push(points[i]);
  }
  return found;
}

/** At most about `most` points, the last one kept. */
function thin(points, most) {
  const step = Math.ceil(points.length / most);
  return points.filter((_, i) => i % step === 0 || i === points.length - 1);
}

const nearest = (points, time) => points.reduce((best, p) => (Math.abs(p.time - time) < Math.abs(best.time - time) ? p : best));

/** The next of 1, 2, 4, 5, 10 × 10^n, so that its half is short too. */
function nice(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 6, 8, 10].find((m) => m * unit >= value * 1.02) * unit || 20 * unit;
}

/** Round local times between two Unix times, at most `most` of them. */
function ticks(from, to, most) {
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((s) => (to - from) / s <= Math.max(2, most)) ?? 7200;
  const found = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    if (t - from < (to - from) * 0.04 || to - t < (to - from) * 0.04) continue;
    found.push([t, clock(t, step < 60)]);
  }
  return found;
}

/** Accepted and rejected a second, over the last minute of samples. */
function perSecond() {
  const last = page.samples.at(-1);
  const usable = page.samples.filter((p) => p.accepted !== null && p.time > last.time - 61 && p.accepted <= last.accepted);
  const first = usable[0];
  if (!first || last.time - first.time < 2) return null;
  const time = last.time - first.time;
  return { accepted: (last.accepted - first.accepted) / time, rejected: Math.max(0, last.rejected - first.rejected) / time };
}

// ---- Words and numbers ----

const total = (list) => list.reduce((sum, n) => sum + n, 0);
const count = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en-US"));
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const byName = (list) => [...list].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
const colour = (i) => `var(--n${i % COLOURS})`;

/** With a capital and a full stop, unless it starts with a name. */
function sentence(text, nodes) {
  const end = /[.!?]$/.test(text) || !text ? "" : ".";
  const named = nodes.some((n) => text.startsWith(n.name));
  return (named ? text : text.slice(0, 1).toUpperCase() + text.slice(1)) + end;
}

function percent(part, digits = 1) {
  if (part > 0 && part < 0.5 * 10 ** (-digits - 2)) return `<${(10 ** -digits).toFixed(digits)}%`;
  return `${(100 * part).toFixed(digits)}%`;
}

function short(n) {
  if (n === null || n === undefined) return "–";
  return n < 10000 ? (n < 10 && !Number.isInteger(n) ? n.toFixed(1) : count(n)) : scaled(n, "").trim();
}

function scaled(n, unit) {
  if (n === null || n === undefined) return "–";
  const steps = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
  let i = 0;
  while (n >= 999.5 && i < steps.length - 1) { n /= 1000; i += 1; }
  return `${n >= 100 || (i === 0 && Number.isInteger(n)) ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)} ${steps[i]}${unit}`;
}

/** Expected hashes, from the decimal string. */
const work = (text) => (text === null || text === undefined ? "–" : scaled(Number(text), "h"));

function seconds(s) {
  return s < 10 ? `${s.toFixed(1)} s` : span(s);
}

function span(s) {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.round(s / 86400)} days`;
}

function clock(time, withSeconds = true) {
  return new Date(time * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(withSeconds ? { second: "2-digit" } : {}) });
}

// ---- Elements ----

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((c) => c !== ""));
  return element;
}

function shape(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const cell = (content, kind = "") => make("td", kind ? { class: kind } : {}, content);

function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function badge(id, text, state) {
  byId(id).hidden = !text;
  byId(id).dataset.state = state;
  setText(id, text ?? "");
}

/** Replaces the children only when they differ, so that a selection or a hover survives a poll. */
function keepOne(parent, children) {
  const next = parent.cloneNode(false);
  next.append(...children);
  if (next.innerHTML !== parent.innerHTML) parent.replaceChildren(...next.childNodes);
}

function keep(parent, items, render) {
  keepOne(parent, items.map((item) => render(item)));
}

function rows(id, items, render, columns, none) {
  const body = byId(id).tBodies[0];
  const list = items.map((item) => make("tr", {}, ...render(item)));
  if (!list.length) list.push(make("tr", {}, make("td", { colspan: columns, class: "none" }, none)));
  keepOne(body, list);
}

// ---- Colours ----

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  page.theme = theme;
  const button = byId("theme");
  button.textContent = theme[0].toUpperCase() + theme.slice(1);
  button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "automatic" : theme}`);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("seam-theme", theme); } catch { /* A private window may refuse. */ }
}

function readTheme() {
  try { return THEMES.find((t) => t === localStorage.getItem("seam-theme")) ?? "auto"; } catch { return "auto"; }
}

// ---- Tables ----

/** A table that is wider than its place is scrolled with the arrow keys, so it must take the focus then, and only then. */
function focusScrollable() {
  for (const place of document.querySelectorAll(".scroll")) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
}

// ---- Start ----

setTheme(readTheme());
byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(page.theme) + 1) % THEMES.length]));
const plots = [
  new Plot("plot-sessions", "sessions", (v) => short(v)),
  new Plot("plot-hashrate", "hashrate", (v) => (v === 0 ? "0" : scaled(v, "H/s"))),
];
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(drawLive, 1000);
new ResizeObserver(focusScrollable).observe(byId("main"));
poll();
