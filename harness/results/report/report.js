"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const make = (tag, kind, ...children) => {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    node.append(...children);
    return node;
  };

  // Theme: the system's, until the reader chooses another.
  const themes = ["auto", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("condsim-theme"); } catch { return null; } };
  const button = element("theme");
  const setTheme = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.value = theme;
    try { localStorage.setItem("condsim-theme", theme); } catch { /* a page opened from disk may have no storage */ }
  };
  setTheme(themes.includes(stored()) ? stored() : "auto");
  button.hidden = false;
  button.addEventListener("click", () => setTheme(themes[(themes.indexOf(button.value) + 1) % themes.length]));

  // Tables: empty cells come last in both directions.
  const collator = new Intl.Collator(undefined, { numeric: true });
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const sorter of table.querySelectorAll("th button[data-sort]")) {
      sorter.addEventListener("click", () => {
        const head = sorter.closest("th");
        const text = sorter.dataset.sort === "text";
        const down = head.hasAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !text;
        for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
        const rows = [...table.tBodies[0].rows].sort((one, two) => {
          const [a, b] = [value(one), value(two)];
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = text ? collator.compare(a, b) : Number(a) - Number(b);
          return down ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    }
  }

  // Queries
  const data = JSON.parse(element("data").textContent);
  if (!data.tasks || !element("controls")) return;
  const PAGE = 10;
  const tasks = data.tasks.filter((task) => task.queries.length);
  const control = Object.fromEntries(["task", "a", "b", "show", "condition"].map((name) => [name, element(`q-${name}`)]));
  let page = 0;

  const fill = (select, options, chosen) => {
    select.replaceChildren(...options.map(([value, label]) => new Option(label, value)));
    select.value = chosen;
    if (select.selectedIndex < 0) select.selectedIndex = 0;
  };
  const task = () => tasks[Number(control.task.value)];
  const sides = () => [Number(control.a.value), Number(control.b.value)];
  const right = (query, run) => query.ranks[run] === 1;

  const chooseTask = () => {
    const { runs, queries, wins } = task();
    const names = runs.map((name, i) => [String(i), name]);
    const before = [control.a, control.b].map((select) => select.selectedOptions[0]?.textContent);
    let [a, b] = before.map((name) => runs.indexOf(name));
    if (a < 0 || b < 0) {
      // The pair of runs that differs most, the better one as A.
      [a, b] = [0, Math.min(1, runs.length - 1)];
      runs.forEach((_, i) => runs.forEach((__, j) => { if (wins[i][j] > wins[a][b]) [a, b] = [i, j]; }));
    }
    fill(control.a, names, String(a));
    fill(control.b, names, String(b));
    const conditions = [...new Set(queries.map((query) => query.condition))].sort(collator.compare);
    fill(control.condition, [["", "all"], ...conditions.map((name, i) => [`c${i}`, name || "(none)"])], "");
    conditionOf = Object.fromEntries(conditions.map((name, i) => [`c${i}`, name]));
  };
  let conditionOf = {};

  const matching = () => {
    const [a, b] = sides();
    const wanted = {
      all: () => true,
      ab: (query) => right(query, a) && !right(query, b),
      ba: (query) => right(query, b) && !right(query, a),
      both: (query) => right(query, a) && right(query, b),
      none: (query) => !right(query, a) && !right(query, b),
    }[control.show.value];
    const condition = control.condition.value;
    return task().queries.filter((query) => wanted(query) && (!condition || query.condition === conditionOf[condition]));
  };

  const picture = (index, caption, target) => {
    const [name, source] = data.pictures[index];
    const frame = make("div", "frame");
    if (source) {
      const image = make("img");
      image.src = source;
      image.alt = name;
      image.title = name;
      image.decoding = "async";
      frame.append(image);
    } else {
      frame.append(make("span", "name", name));
    }
    return make("li", target ? "picture target" : "picture", frame, make("span", "place", caption));
  };

  const answer = (letter, query, run) => {
    const verdict = right(query, run)
      ? make("span", "verdict yes", "✓ target ranked first")
      : make("span", "verdict no", `✗ target at rank ${query.ranks[run]}`);
    const title = make("p", "", make("b", "", `${letter}: ${task().runs[run]}`), " ", verdict, ` of ${query.candidates}`);
    const list = make("ol", "pictures");
    query.top[run].forEach((index, place) => {
      const hit = query.hits[run][place] === 1;
      list.append(picture(index, hit ? `${place + 1} ✓` : String(place + 1), hit));
    });
    return make("div", "answer", title, list);
  };

  const card = (query) => {
    const heading = make("h4", "", `#${query.id} `, make("span", "condition", query.condition || "no condition"));
    const question = make("ul", "pictures");
    query.reference.forEach((index) => question.append(picture(index, "reference", false)));
    query.relevant.forEach((index) => question.append(picture(index, query.relevantTotal > 1 ? "a target" : "target", true)));
    const left = make("div", "question", heading, question);
    const more = query.relevantTotal - query.relevant.length;
    if (more > 0) left.append(make("p", "facts", `and ${more} more targets`));
    const [a, b] = sides();
    return make("article", "query", left, make("div", "answers", answer("A", query, a), answer("B", query, b)));
  };

  const show = () => {
    const matches = matching();
    const pages = Math.max(1, Math.ceil(matches.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const [a, b] = sides();
    const { wins, total, queries } = task();
    element("q-counts").textContent = `${matches.length} of the ${queries.length} queries shown. ` +
      `Of all ${total} queries of the task: A right and B wrong ${wins[a][b]}, B right and A wrong ${wins[b][a]}.`;
    element("q-list").replaceChildren(...matches.slice(page * PAGE, (page + 1) * PAGE).map(card));
    if (!matches.length) element("q-list").append(make("p", "nothing", "No queries match these filters."));
    element("q-page").textContent = `page ${page + 1} of ${pages}`;
    element("q-previous").disabled = page === 0;
    element("q-next").disabled = page === pages - 1;
  };

  const turn = (step) => {
    page += step;
    show();
    element("queries").scrollIntoView();
  };
  fill(control.task, tasks.map(({ name }, i) => [String(i), name]), "0");
  chooseTask();
  control.task.addEventListener("change", () => { page = 0; chooseTask(); show(); });
  for (const name of ["a", "b", "show", "condition"]) {
    control[name].addEventListener("change", () => { page = 0; show(); });
  }
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("q-previous").addEventListener("click", () => turn(-1));
  element("q-next").addEventListener("click", () => turn(1));
  element("controls").hidden = false;
  element("pager").hidden = false;
  show();
})();
