// Shows and filters the responses of evaluations, as page.js does the questions of runs.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50;
  const table = document.getElementById("said-table");
  if (!table) return;
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const control = (id) => document.getElementById(`said-${id}`);
  const all = data.said.flatMap((row) => row.said.map((one) => ({ row, ...one })));
  let shown = [];
  let limit = PAGE;

  const verdicts = (one) => Object.values(one.right);
  const VERDICTS = {
    "": () => true,
    right: (one) => verdicts(one).some(Boolean),
    wrong: (one) => verdicts(one).some((right) => !right),
    none: (one) => one.answer === null,
    cut: (one) => one.cut === true,
  };
  const matches = (one, words) => {
    one.searched ??= [one.row.question, one.text].join("\n").toLowerCase();
    return words.every((word) => one.searched.includes(word));
  };
  const choose = () => {
    const words = control("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [of, peer, kind, verdict] = ["of", "peer", "kind", "verdict"].map((id) => control(id).value);
    shown = all.filter((one) => (of === "" || one.row.measured === Number(of)) && (peer === "" || one.peer === peer)
      && (kind === "" || one.kind === kind) && VERDICTS[verdict](one) && matches(one, words));
    limit = PAGE;
    render();
  };

  const several = data.measured.length > 1;
  const COLUMNS = [...(several ? ["Of"] : []), "Question", "Gold", "Peer", "Response", "Answer", "Verdict", "Why read so"];
  const cell = (label, attributes, ...children) => el("td", { "data-label": label, ...attributes }, ...children);
  const verdict = (one) => {
    const entries = Object.entries(one.right);
    const chips = entries.map(([scoring, right]) => el("span", {
      class: `chip ${right ? "agrees" : "differs"}`, text: `${entries.length > 1 ? `${scoring}: ` : ""}${right ? "right" : "not right"}` }));
    if (one.cut) chips.push(el("span", { class: "chip none", text: "cut off" }));
    if (one.answer === null) chips.push(el("span", { class: "chip none", text: "no answer" }));
    return chips;
  };
  const draw = (one) => el("tr", { class: "response" },
    ...(several ? [cell("Of", {}, el("bdi", { text: data.measured[one.row.measured] }))] : []),
    cell("Question", { class: "prompt" }, el("pre", { text: one.row.question, dir: "auto" })),
    cell("Gold", {}, el("bdi", { text: one.row.gold })),
    cell("Peer", {}, el("bdi", { text: one.peer }), el("span", { class: "figures", text: one.kind })),
    cell("Response", { class: "said" }, el("pre", { text: one.text, dir: "auto" })),
    cell("Answer", {}, one.answer === null ? "–" : el("bdi", { text: one.answer })),
    cell("Verdict", {}, ...verdict(one)),
    cell("Why read so", { class: "why" }, ...one.why.map((line) => el("span", { class: "figures", text: line }))));
  const render = () => {
    table.tHead.rows[0].replaceChildren(...COLUMNS.map((text) => el("th", { text, scope: "col" })));
    table.tBodies[0].replaceChildren(...shown.slice(0, limit).map(draw));
    control("count").textContent = `${shown.length} of ${all.length} responses` + (shown.length > limit ? `, the first ${limit} shown` : "");
    control("more").hidden = shown.length <= limit;
  };

  for (const id of ["of", "peer", "kind", "verdict"]) control(id).addEventListener("change", choose);
  control("search").addEventListener("input", choose);
  control("more").addEventListener("click", () => { limit += PAGE; render(); });
  choose();
})();
