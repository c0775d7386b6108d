"use strict";
// Shows, sorts and filters the table of questions. Every text from a model or the data goes through textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50;
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);
  const table = document.getElementById("questions-table");
  if (!table) return;
  const body = table.tBodies[0];
  const control = (id) => document.getElementById(id);
  let sorting = { by: "step", down: false };
  let limit = PAGE;
  let shown = [];

  // ---- one value of a row to sort by ----
  const measure = (row, name) => {
    const peer = own(row.peers, name);
    if (!peer) return null;
    const by = control("figure").value;
    if (by === "weight" || by === "pmi") return peer[by];
    if (by === "agreeing") {
      return peer.answers.reduce((sum, [, count, agrees]) => sum + (agrees ? count : 0), 0) / peer.samples.length;
    }
    return own(peer.rewards, by.slice("reward:".length)) ?? null;
  };
  const value = (row) => {
    if (sorting.by === "run") return row.run;
    if (sorting.by === "step") return row.step;
    if (sorting.by === "prompt") return row.prompt;
    if (sorting.by === "share") return row.share;
    if (sorting.by === "distinct") return row.distinct;
    return measure(row, sorting.by.slice("peer:".length));
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null); // unknown ones last, whichever way
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sorting.down ? -order : order;
  };

  // ---- which rows ----
  const matches = (row, words) => {
    if (!words.length) return true;
    row.text ??= [row.prompt, ...row.targets.map(([text]) => text),
      ...Object.values(row.peers).flatMap((peer) => peer.samples.map((sample) => sample.completion))]
      .join("\n").toLowerCase();
    return words.every((word) => row.text.includes(word));
  };
  const KINDS = {
    all: () => true,
    differ: (row) => row.distinct > 1,
    agree: (row) => row.distinct === 1 && Object.values(row.peers).every((p) => p.answers.every(([text]) => text !== null)),
    abstained: (row) => !row.targets.length,
    cut: (row) => Object.values(row.peers).some((peer) => peer.samples.some((sample) => sample.cut)),
    lacking: (row) => Object.values(row.peers).some((peer) => peer.answers.some(([text]) => text === null)),
  };
  const choose = () => {
    const words = control("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [run, step, kind] = ["run", "step", "kind"].map((id) => control(id).value);
    shown = data.rows.filter((row) =>
      (run === "" || row.run === Number(run)) && (step === "" || row.step === Number(step)) && KINDS[kind](row) && matches(row, words));
    shown.sort(compare);
    limit = PAGE;
    render();
  };

  // ---- drawing ----
  const chip = ([text, count, agrees], alone = false) => {
    const node = el("span", { class: `chip${agrees ? " agrees" : ""}${text === null ? " none" : ""}` });
    node.append(el("bdi", { text: text === null ? "no answer" : text }), alone ? "" : ` ×${count}`);
    if (agrees) node.append(el("span", { text: " ✓", title: "equals the aggregate" }));
    return node;
  };
  const figures = (record) => {
    const parts = Object.entries(record.rewards).map(([name, x]) => `${Object.keys(record.rewards).length > 1 ? name : "reward"} ${number(x)}`);
    if (record.weight !== null) parts.push(`weight ${number(record.weight)}`);
    if (record.pmi !== null) parts.push(`PMI ${number(record.pmi)}`);
    return el("span", { class: "figures", text: parts.join(" · ") });
  };
  const peers = () => data.peers.filter((_, i) => control(`peer-${i}`).checked);
  const cell = (label, attributes, ...children) => el("td", { "data-label": label, ...attributes }, ...children);
  const openSamples = (row, tr, button) => {
    if (button.getAttribute("aria-expanded") === "true") {
      tr.nextSibling.remove();
      button.setAttribute("aria-expanded", "false");
      button.textContent = "Samples";
      return;
    }
    const lines = [];
    for (const name of peers()) {
      for (const [i, s] of (own(row.peers, name)?.samples ?? []).entries()) {
        lines.push(el("tr", {},
          cell("Peer", {}, el("bdi", { text: `${name} ${i + 1}` })),
          cell("Completion", {}, el("pre", { text: s.completion, dir: "auto" }), ...s.later.map((text) => el("pre", { text, dir: "auto" }))),
          cell("Answer", {}, chip([s.answer, 1, s.agrees], true), ...(s.cut ? [el("span", { class: "chip none", text: "cut off" })] : [])),
          cell("Aggregate", {}, el("bdi", { text: s.target ?? "none" })),
          cell("Reward, weight", {}, figures(s))));
      }
    }
    const head = el("tr", {}, ...["Peer", "Completion", "Answer", "Aggregate", "Reward, weight"].map((text) => el("th", { text, scope: "col" })));
    const inner = el("table", { class: "cards" }, el("thead", {}, head), el("tbody", {}, ...lines));
    tr.after(el("tr", { class: "samples" }, el("td", { colspan: String(table.tHead.rows[0].cells.length) },
      el("p", {}, el("pre", { text: row.prompt, dir: "auto" })), inner)));
    button.setAttribute("aria-expanded", "true");
    button.textContent = "Hide";
  };
  const draw = (row) => {
    const button = el("button", { type: "button", "aria-expanded": "false", text: "Samples" });
    const tr = el("tr", { class: "question" });
    button.addEventListener("click", () => openSamples(row, tr, button));
    if (data.runs.length > 1) tr.append(cell("Run", {}, el("bdi", { text: data.runs[row.run] })));
    tr.append(cell("Step", { class: "number" }, String(row.step)));
    tr.append(cell("Question", { class: "prompt" }, el("pre", { class: "clip", text: row.prompt, dir: "auto" })));
    tr.append(cell("Aggregate", {}, ...(row.targets.length ? row.targets.slice(0, 4).map(([text, count]) => {
      const node = el("span", { class: "chip" }, el("bdi", { text }));
      if (row.targets.length > 1) node.append(` ×${count}`);
      return node;
    }) : [el("span", { class: "chip none", text: "none" })]), el("span", { class: "figures", text: row.share === null ? "" : `share ${number(row.share)}` })));
    tr.append(cell("Distinct answers", { class: "number" }, String(row.distinct)));
    for (const name of peers()) {
      const peer = own(row.peers, name);
      if (!peer) { tr.append(cell(name, {}, "–")); continue; }
      const chips = peer.answers.slice(0, 6).map((answer) => chip(answer));
      if (peer.answers.length > 6) chips.push(el("span", { class: "chip none", text: `${peer.answers.length - 6} more` }));
      tr.append(cell(name, {}, ...chips, figures(peer)));
    }
    tr.append(el("td", {}, button));
    return tr;
  };
  const COLUMNS = () => [
    ...(data.runs.length > 1 ? [["run", "Run"]] : []), ["step", "Step"], ["prompt", "Question"], ["share", "Aggregate"],
    ["distinct", "Distinct"], ...peers().map((name) => [`peer:${name}`, name])];
  const header = () => {
    const cells = COLUMNS().map(([by, title]) => {
      const button = el("button", { type: "button", text: title });
      button.addEventListener("click", () => {
        sorting = { by, down: sorting.by === by ? !sorting.down : false };
        choose();
        [...table.tHead.querySelectorAll("th")].find((th) => th.dataset.by === by).firstChild.focus(); // it was drawn anew
      });
      const state = sorting.by !== by ? "none" : sorting.down ? "descending" : "ascending";
      return el("th", { scope: "col", "aria-sort": state, "data-by": by, ...(by === "step" || by === "distinct" ? { class: "number" } : {}) }, button);
    });
    table.tHead.rows[0].replaceChildren(...cells, el("th", { scope: "col" }));
    const select = control("sort");
    select.replaceChildren(...COLUMNS().flatMap(([by, title]) => [
      el("option", { value: `${by}|up`, text: `${title}, ascending` }), el("option", { value: `${by}|down`, text: `${title}, descending` })]));
    select.value = `${sorting.by}|${sorting.down ? "down" : "up"}`;
  };
  const render = () => {
    header();
    body.replaceChildren(...shown.slice(0, limit).map(draw));
    control("count").textContent = `${shown.length} of ${data.rows.length} questions` + (shown.length > limit ? `, the first ${limit} shown` : "");
    control("more").hidden = shown.length <= limit;
  };

  for (const id of ["run", "step", "kind", "figure"]) control(id).addEventListener("change", choose);
  control("search").addEventListener("input", choose);
  control("sort").addEventListener("change", () => {
    const chosen = control("sort").value;
    const bar = chosen.lastIndexOf("|");
    sorting = { by: chosen.slice(0, bar), down: chosen.slice(bar + 1) === "down" };
    choose();
  });
  data.peers.forEach((name, i) => control(`peer-${i}`).addEventListener("change", () => {
    if (sorting.by === `peer:${name}`) sorting = { by: "step", down: false };
    choose();
  }));
  control("more").addEventListener("click", () => { limit += PAGE; render(); });
  choose();
})();
