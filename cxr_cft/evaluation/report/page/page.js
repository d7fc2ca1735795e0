// Extras of the page: tables that sort, heat maps that come and go, a table of contents that knows where one is.
// Everything can be read without them. No handler stands in the HTML, and nothing is fetched.
"use strict";
document.documentElement.classList.add("js");

document.addEventListener("DOMContentLoaded", () => {
  const said = document.createElement("p");
  said.className = "unseen";
  said.setAttribute("role", "status");
  document.body.append(said);
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table, said);
  makeHeatMaps();
  makeScrollable();
  makeContents();
  openForPrint();
});

// A heading becomes a button. The first press sorts numbers from the largest, names from A; the next the other way.
// What has no key stays at the end either way, and equal rows keep the order in which the page was written.
function makeSortable(table, said) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const written = [...body.rows];
  for (const head of heads.filter((each) => each.dataset.sort)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = head.dataset.sort === "number";
      const before = head.getAttribute("aria-sort");
      const rising = before ? before === "descending" : !numbers;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      body.append(...sorted(written, head, numbers, rising));
      said.textContent = `Sorted by ${button.textContent.trim()}, ${rising ? "ascending" : "descending"}.`;
    });
  }
}

function sorted(rows, head, numbers, rising) {
  // A cell over several columns moves the ones after it, so a cell is found by the column where it begins.
  const column = columnOf(head);
  const keyOf = (row) => {
    const key = [...row.cells].find((cell) => columnOf(cell) === column)?.dataset.key;
    return key === undefined || !numbers ? key : Number(key);
  };
  const way = rising ? 1 : -1;
  return rows
    .map((row) => [keyOf(row), row])
    .sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return way * (numbers ? a - b : a.localeCompare(b, "en", { numeric: true }));
    })
    .map(([, row]) => row);
}

function columnOf(cell) {
  let column = 0;
  for (let before = cell.previousElementSibling; before; before = before.previousElementSibling) column += before.colSpan;
  return column;
}

function makeHeatMaps() {
  const cases = [...document.querySelectorAll(".case")].filter((each) => each.querySelector(".heat"));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const buttons = cases.map((each) => {
    const button = toggle("heat map", `heat map: ${each.dataset.name}`);
    each.querySelector(".views").after(button);
    button.addEventListener("click", () => {
      show(each, button, !pressed(button));
      all?.setAttribute("aria-pressed", String(buttons.every(pressed)));
    });
    return button;
  });
  const show = (each, button, on) => {
    button.setAttribute("aria-pressed", String(on));
    each.classList.toggle("hot", on);
  };
  const about = document.querySelector("#gallery .about");
  const all = buttons.length > 1 && about ? toggle("all heat maps") : null;
  if (all) {
    about.after(all);
    all.classList.add("all");
    all.addEventListener("click", () => {
      const on = !pressed(all);
      all.setAttribute("aria-pressed", String(on));
      cases.forEach((each, place) => show(each, buttons[place], on));
    });
  }
}

function toggle(text, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "toggle";
  button.textContent = text;
  button.setAttribute("aria-pressed", "false");
  if (name) button.setAttribute("aria-label", name);
  return button;
}

// What scrolls must be reachable by keyboard; what does not need not stop it.
function makeScrollable() {
  const watcher = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const each of document.querySelectorAll(".scroll")) watcher.observe(each);
}

function makeContents() {
  const contents = document.querySelector(".contents");
  const details = contents.querySelector("details");
  const narrow = matchMedia("(max-width: 66rem)");
  const fit = () => { details.open = !narrow.matches; };
  fit();
  narrow.addEventListener("change", fit);
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  contents.addEventListener("click", (event) => {
    if (narrow.matches && event.target.closest("a")) details.open = false;
  });
  const places = [...links.keys()].map((id) => document.getElementById(id));
  const mark = () => {
    const passed = places.filter((place) => place.getBoundingClientRect().top < 120);
    const here = (passed.at(-1) ?? places[0]).id;
    for (const [id, link] of links) {
      if (id === here) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
}

function openForPrint() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed) each.open = false;
    closed = [];
  });
}
