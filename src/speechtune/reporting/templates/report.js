"use strict";
// Lower case for searching; Turkish capital I with a dot becomes a plain i.
const folded = (text) => text.normalize("NFKC").toLowerCase().replace(/i\u0307/g, "i");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Light or dark: the system's choice until the button is used.
const themeButton = document.getElementById("theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// One evaluation at a time. Without a script all of them stand below each other.
const tabs = all(".tabs button");
function show(key) {
  all(".evaluation").forEach((part) => { part.hidden = part.dataset.key !== key; });
  tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.show === key)));
}
if (tabs.length) {
  all(".tabs").forEach((bar) => { bar.hidden = false; });
  document.body.classList.add("tabbed");
  tabs.forEach((tab) => tab.addEventListener("click", () => show(tab.dataset.show)));
  show(tabs[0].dataset.show);
}

// Tables of utterances: search, sort, a page at a time.
all("table.utterances").forEach((table) => {
  const box = table.parentElement;
  const body = table.tBodies[0];
  const input = box.querySelector("input");
  const count = box.querySelector(".tools output");
  const more = box.querySelector(".more");
  const rows = [...body.rows].map((row) => ({ row, text: folded(row.textContent) }));
  const plain = (number) => number.toLocaleString("en");
  let order = rows;
  let limit = 25;

  function draw() {
    const wanted = folded(input.value.trim()).split(/\s+/).filter(Boolean);
    const found = order.filter((item) => wanted.every((word) => item.text.includes(word)));
    body.replaceChildren(...found.slice(0, limit).map((item) => item.row));
    count.textContent = (wanted.length ? `${plain(found.length)} of ` : "") + `${plain(rows.length)} utterances`;
    more.hidden = found.length <= limit;
    more.textContent = `Show more (${plain(Math.max(0, found.length - limit))} left)`;
  }

  const value = (item, column, numeric) => {
    const text = item.row.cells[column].textContent;
    if (!numeric) return text;
    const number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? -1 : number;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const numeric = "n" in head.dataset;
    const name = head.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort ? head.ariaSort === "ascending" : numeric;
      [...head.parentElement.cells].forEach((other) => {
        other.removeAttribute("aria-sort");
        other.firstChild.textContent = other.firstChild.textContent.replace(/ [↑↓]$/, "");
      });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      button.textContent = `${name} ${down ? "↓" : "↑"}`;
      const keyed = rows.map((item) => [value(item, column, numeric), item]);
      keyed.sort(([a], [b]) => (numeric ? a - b : a.localeCompare(b)) * (down ? -1 : 1));
      order = keyed.map(([, item]) => item);
      limit = 25;
      draw();
    });
  });
  input.addEventListener("input", () => { limit = 25; draw(); });
  more.addEventListener("click", () => { limit += 100; draw(); });
  box.querySelector(".tools").hidden = false;
  // Paper gets the first fifty, whatever the screen shows.
  addEventListener("beforeprint", () => { body.replaceChildren(...order.slice(0, 50).map((item) => item.row)); });
  addEventListener("afterprint", draw);
  draw();
});

// Charts: the values below the pointer.
all("figure svg").forEach((svg) => {
  const lines = all("[data-readings]", svg).map((line) => ({ name: line.dataset.name, readings: JSON.parse(line.dataset.readings) }));
  const cursor = svg.querySelector(".cursor");
  const output = svg.closest("figure").querySelector("output");
  const clear = () => { cursor.style.visibility = "hidden"; output.textContent = ""; };
  svg.addEventListener("pointermove", (event) => {
    const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    const near = lines.map((line) => line.readings.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)));
    const place = near.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    cursor.setAttribute("transform", `translate(${place[0]} 0)`);
    cursor.style.visibility = "visible";
    const parts = near.map((reading, i) => [reading, lines[i].name]).filter(([reading]) => Math.abs(reading[0] - place[0]) < 8);
    output.textContent = `step ${place[1]}: ` + parts.map(([reading, name]) => `${name} ${reading[2]}`).join(", ");
  });
  svg.addEventListener("pointerleave", clear);
});
