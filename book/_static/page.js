/* Tables sort by a click on a column's head, or Enter, and break their heads and sentences; a page's commands and
   citation are copied by a button. */
(() => {
  const number = (text) => {
    const found = text.replace(/\u2212/g, "-").replace(/,(?=\d{3})/g, "").match(/^[^\d-]{0,2}(-?\d+(\.\d+)?)/);
    return found ? Number(found[1]) : null;
  };
  const compare = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return x - y || a.localeCompare(b);
    return a.localeCompare(b);
  };
  const empty = (text) => text === "" || text === "\u2013";

  function sort(table, column, head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row.cells[column].innerText.trim(), row]);
    rows.sort(([a], [b]) => empty(a) - empty(b) || (empty(a) ? 0 : compare(a, b) * (down ? -1 : 1)));
    body.append(...rows.map(([, row]) => row));
  }

  function sortable(table) {
    const heads = table.tHead?.rows;
    if (heads?.length !== 1 || table.tBodies.length !== 1 || table.querySelector("[rowspan], [colspan]")) return;
    if (table.tBodies[0].rows.length < 3) return;
    [...heads[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      head.tabIndex = 0;
      head.classList.add("hn-sortable");
      head.title = "sort by this column";
      head.addEventListener("click", () => sort(table, column, head));
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, column, head);
      });
    });
  }

  /* A name may break after its underscores, a sentence in a table of few columns between its words; a missing number is
     a dash. */
  function tidy(table) {
    const few = table.rows[0]?.cells.length <= 4;
    for (const head of table.querySelectorAll("thead th")) {
      const text = head.querySelector("p") ?? head;
      if (text.childElementCount || text.textContent.length < 12) continue;
      const parts = text.textContent.split(/(?<=_)/);
      text.replaceChildren(...parts.flatMap((part) => [part, document.createElement("wbr")]));
    }
    for (const cell of table.querySelectorAll("td")) {
      if (cell.textContent === "NaN") cell.textContent = "\u2013";
      if (!few || cell.textContent.length <= 32) continue;
      cell.classList.add("hn-sentence");
      if (!table.querySelector("[colspan]")) table.classList.add("hn-stack");
    }
  }

  async function copy(button) {
    const source = button.parentElement.querySelector("pre");
    let done = true;
    try {
      await navigator.clipboard.writeText(source.innerText);
    } catch {
      getSelection().selectAllChildren(source);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
  }

  /* The page of all rows: a choice for each of a few columns, and the first rows that fit. Values are set as text. */
  function browse(place) {
    const { columns, words, rows: coded } = JSON.parse(document.getElementById("hn-rows-data").textContent);
    const rows = coded.map((row) => row.map((value, i) => words[i]?.[value] ?? value));
    const chosen = {};
    const make = (name, text, parent) => {
      const element = document.createElement(name);
      if (text !== undefined) element.textContent = text;
      parent?.append(element);
      return element;
    };
    const filter = make("div", undefined, place);
    filter.className = "hn-filter";
    const said = make("p", "", place);
    said.setAttribute("aria-live", "polite");
    const box = make("div", undefined, place);
    box.className = "hn-scroll";
    const table = make("table", undefined, box);
    table.className = "table hn-table hn-long";
    const head = make("tr", undefined, make("thead", undefined, table));
    columns.forEach((name) => make("th", name.replaceAll("_", " "), head));
    const body = make("tbody", undefined, table);
    const draw = () => {
      const kept = rows.filter((row) => columns.every((n, k) => !chosen[n] || String(row[k]) === chosen[n]));
      said.textContent = `${kept.length} of ${rows.length} runs` + (kept.length > 200 ? ", the first 200 below" : "");
      body.replaceChildren(...kept.slice(0, 200).map((row) => {
        const line = make("tr");
        row.forEach((value) => make("td", value ?? "\u2013", line));
        return line;
      }));
    };
    for (const name of ["table", "space", "dataset", "method", "n_train", "graph_form"]) {
      const k = columns.indexOf(name);
      if (k < 0) continue;
      const label = make("label", name.replaceAll("_", " ") + " ", filter);
      const select = make("select", undefined, label);
      make("option", "all", select).value = "";
      const values = [...new Set(rows.map((row) => row[k]).filter((value) => value !== null))];
      values.sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(b)));
      values.forEach((value) => make("option", String(value), select));
      select.addEventListener("change", () => { chosen[name] = select.value; draw(); });
    }
    draw();
  }

  addEventListener("DOMContentLoaded", () => {
    const place = document.getElementById("hn-rows");
    if (place) browse(place);
    /* The theme's sidebar is no landmark; its title and search are found by one. */
    const sidebar = document.querySelector(".bd-sidebar-primary");
    sidebar?.setAttribute("role", "complementary");
    sidebar?.setAttribute("aria-label", "the book");
    document.querySelectorAll(".bd-article table").forEach(tidy);
    document.querySelectorAll(".bd-article table").forEach(sortable);
    document.querySelectorAll(".hn-tools button").forEach((b) => b.addEventListener("click", () => copy(b)));
  });
})();
