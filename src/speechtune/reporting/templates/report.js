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

// Which of the chosen utterances: the worst, the newly wrong, random ones.
all(".views").forEach((bar) => {
  const views = all(".view", bar.parentElement);
  const show = (kind) => {
    views.forEach((view) => { view.hidden = view.dataset.view !== kind; });
    all("button", bar).forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.view === kind)));
  };
  all("button", bar).forEach((button) => button.addEventListener("click", () => show(button.dataset.view)));
  bar.hidden = false;
  document.body.classList.add("viewed");
  show(views[0].dataset.view);
});

// Tables of utterances: search, filters, sort, a page at a time. Only the rows on screen are elements.
const places = Object.fromEntries(data.columns.map((name, i) => [name, i]));
const cell = (row, name) => row[places[name]];

function diff(row) {
  const line = make("p", "d");
  line.dir = "auto";
  cell(row, "parts").forEach((part, i) => {
    if (i) line.append(" ");
    if (typeof part === "string") line.append(part);
    else if (part[0] && part[1]) {
      const pair = make("span", "r");
      pair.append(make("del", "", part[0]), " ", make("ins", "", part[1]));
      line.append(pair);
    } else line.append(part[0] ? make("del", "m", part[0]) : make("ins", "a", part[1]));
  });
  const hidden = cell(row, "hidden");
  if (hidden) line.append(" ", make("em", "", `and ${hidden.toLocaleString("en")} more words`));
  if (!cell(row, "parts").length) line.append(make("em", "", "no words"));
  return line;
}

function buildRow(row, hasBefore) {
  const line = make("tr");
  const text = make("td");
  text.append(diff(row));
  const clip = cell(row, "clip");
  if (clip !== null) {
    const player = make("div", "player");
    player.dataset.clip = clip;
    player.dataset.name = cell(row, "id");
    text.append(buildPlayer(player));
  }
  const short = (value, limit) => (value.length > limit ? `${value.slice(0, limit - 1)}…` : value);
  const seconds = cell(row, "seconds");
  line.append(
    make("td", "", cell(row, "errors")), make("td", "", cell(row, "wer")), make("td", "", cell(row, "cer")), text,
    make("td", "", seconds === null ? "" : seconds.toFixed(1)), make("td", "", short(cell(row, "speaker"), 12)),
    make("td", "", short(cell(row, "id"), 60)),
  );
  if (hasBefore) line.append(make("td", "", cell(row, "before") ?? ""));
  return line;
}

const isOf = {
  wrong: (row) => cell(row, "errors") > 0,
  right: (row) => cell(row, "errors") === 0,
  empty: (row) => !cell(row, "parts").some((part) => typeof part === "string" || part[1]),
  worse: (row) => cell(row, "before") !== null && cell(row, "errors") > cell(row, "before"),
  better: (row) => cell(row, "before") !== null && cell(row, "errors") < cell(row, "before"),
  audio: (row) => cell(row, "clip") !== null,
};
// "2 to 4 s": from 2 to below 4; "over 30 s".
function isLong(name) {
  const [low, high = Infinity] = name.match(/\d+/g).map(Number);
  return (row) => cell(row, "seconds") !== null && cell(row, "seconds") >= low && cell(row, "seconds") < high;
}
const textOf = (row) => folded([cell(row, "parts").flat().join(" "), cell(row, "speaker"), cell(row, "id")].join(" "));

all("table.utterances").forEach((table) => {
  const box = table.parentElement;
  const body = table.tBodies[0];
  const input = box.querySelector("input");
  const count = box.querySelector(".tools output");
  const more = box.querySelector(".more");
  const rows = data.tables[box.dataset.key];
  const heads = [...table.tHead.rows[0].cells];
  const hasBefore = heads.length > 7;
  const plain = (number) => number.toLocaleString("en");
  let texts = null; // folded at the first search
  let order = rows.map((_, i) => i);
  let limit = 25;
  let shown = [];

  function filtered() {
    const words = folded(input.value.trim()).split(/\s+/).filter(Boolean);
    if (words.length) texts ??= rows.map(textOf);
    const tests = all("select", box).filter((select) => select.value).map((select) => isOf[select.value] || isLong(select.value));
    const isWanted = (i) => tests.every((test) => test(rows[i])) && words.every((word) => texts[i].includes(word));
    return [tests.length + words.length > 0, order.filter(isWanted)];
  }

  function redraw() {
    const [isFiltered, found] = filtered();
    const same = found.length >= shown.length && shown.every((row, i) => row === found[i]);
    const fresh = found.slice(same ? shown.length : 0, limit).map((i) => buildRow(rows[i], hasBefore));
    if (same) body.append(...fresh);
    else body.replaceChildren(...fresh);
    shown = found.slice(0, limit);
    if (playing && !playing.isConnected) sound.pause();
    count.textContent = (isFiltered ? `${plain(found.length)} of ` : "") + `${plain(rows.length)} utterances`;
    more.hidden = found.length <= limit;
    more.textContent = `Show more (${plain(Math.max(0, found.length - limit))} left)`;
  }
  const restart = () => { limit = 25; shown = []; body.replaceChildren(); redraw(); };

  const value = (row, name, numeric) => {
    if (!numeric) return name === "text" ? cell(row, "parts").flat().join(" ") : cell(row, name);
    const number = parseFloat(String(cell(row, name === "s" ? "seconds" : name) ?? "").replace(/,/g, ""));
    return Number.isNaN(number) ? -1 : number;
  };
  heads.forEach((head) => {
    const numeric = "n" in head.dataset;
    const name = head.textContent;
    const button = make("button", "", name);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort ? head.ariaSort === "ascending" : numeric;
      heads.forEach((other) => {
        other.removeAttribute("aria-sort");
        other.firstChild.textContent = other.firstChild.textContent.replace(/ [↑↓]$/, "");
      });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      button.textContent = `${name} ${down ? "↓" : "↑"}`;
      const keyed = rows.map((row, i) => [value(row, name.toLowerCase(), numeric), i]);
      const compare = numeric ? (a, b) => a - b : new Intl.Collator().compare;
      keyed.sort(([a], [b]) => compare(a, b) * (down ? -1 : 1));
      order = keyed.map(([, i]) => i);
      restart();
    });
  });
  input.addEventListener("input", restart);
  all("select", box).forEach((select) => select.addEventListener("change", restart));
  more.addEventListener("click", () => { limit += 100; redraw(); });
  box.querySelector(".tools").hidden = false;
  box.querySelector(".keys").hidden = !data.clips.length;
  // Paper gets the first fifty, whatever the screen shows.
  addEventListener("beforeprint", () => { body.replaceChildren(...order.slice(0, 50).map((i) => buildRow(rows[i], hasBefore))); });
  addEventListener("afterprint", restart);
  restart();
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
    output.textContent = `${svg.dataset.x} ${place[1]}: ` + parts.map(([reading, name]) => `${name} ${reading[2]}`).join(", ");
  });
  svg.addEventListener("pointerleave", clear);
});
