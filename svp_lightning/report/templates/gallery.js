"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const { classes, images, suspects, sheet } = data;
  const $ = (id) => document.getElementById(id);
  const TILE = { width: 136, height: 178, picture: 116 };
  const LARGE = 448;
  const BORDER = 40; // left and right of the large view's picture, at least
  const decisions = new Map(); // suspect -> { decision, label, when }
  const history = []; // lists of [suspect, its decision before]
  const chosen = new Set(); // suspects
  let shown = []; // suspects that pass the filters
  let cursor = 0; // position in shown
  let columns = 1;

  const element = (name, className = "", text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const number = (value, digits) => (value === null ? "unknown" : value.toFixed(digits));
  let parsed = null;
  const details = () => (parsed ??= JSON.parse($("details").textContent)); // further down the page
  const reason = (suspect) => details().reasons[details().reason[suspect]];
  const percent = (share) => `${Math.round(100 * share)}%`;
  const given = (suspect) => images.given[suspects.image[suspect]];

  const uris = $("first_sheets").textContent.split("\n"); // of the sheets
  const styled = new Set(); // sheets that have a rule
  const styles = new CSSStyleSheet();
  document.adoptedStyleSheets = [styles];

  function picture(image, size) {
    const place = image % (sheet.columns * sheet.columns);
    const number = Math.floor(image / (sheet.columns * sheet.columns));
    if (!styled.has(number) && uris[number]) { // else it is not loaded yet
      styles.insertRule(`.s${number} { background-image: url(${uris[number]}); }`);
      styled.add(number);
    }
    const made = element("div", `picture s${number}`);
    const x = (place % sheet.columns) * size;
    const y = Math.floor(place / sheet.columns) * size;
    made.style.cssText = `width:${size}px;height:${size}px;` +
      `background-size:${sheet.columns * size}px auto;background-position:-${x}px -${y}px`;
    return made;
  }

  function decided(suspect) {
    const made = decisions.get(suspect);
    if (!made) return "";
    return made.decision === "relabel" ? `→ ${classes[made.label].display}` : made.decision;
  }

  function tile(position) {
    const suspect = shown[position];
    const made = element("div", "tile");
    made.style.left = `${(position % columns) * TILE.width}px`;
    made.style.top = `${Math.floor(position / columns) * TILE.height}px`;
    made.dataset.id = images.id[suspects.image[suspect]];
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", chosen.has(suspect));
    made.classList.toggle("cursor", position === cursor);
    made.classList.add(decisions.get(suspect)?.decision ?? "open");
    const label = element("div", "label", classes[given(suspect)].display);
    label.style.borderColor = classes[given(suspect)].colour;
    const guess = classes[suspects.suggested[suspect]].display;
    made.append(picture(suspects.image[suspect], TILE.picture), label,
      element("div", "guess", `${guess}? ${suspects.score[suspect].toFixed(2)}`),
      element("div", "decision", decided(suspect)));
    return made;
  }

  function draw() {
    const view = $("scroller");
    columns = Math.max(1, Math.floor(view.clientWidth / TILE.width));
    $("grid").style.height = `${Math.ceil(shown.length / columns) * TILE.height}px`;
    const first = Math.max(0, Math.floor(view.scrollTop / TILE.height) - 1) * columns;
    const rows = Math.ceil(view.clientHeight / TILE.height) + 3;
    const last = Math.min(shown.length, first + rows * columns);
    const tiles = [];
    for (let position = first; position < last; position++) tiles.push(tile(position));
    $("grid").replaceChildren(...tiles, band);
    const total = suspects.image.length;
    $("count").textContent = `${shown.length.toLocaleString()} of ${total.toLocaleString()} shown, ` +
      `${chosen.size.toLocaleString()} selected, ${decisions.size.toLocaleString()} decided`;
    if ($("large").open) drawLarge();
  }

  function scaleBar(image, size) {
    const um = images.pixel_um[image] ?? 1;
    const unit = images.pixel_um[image] === null ? "px" : "µm";
    const most = 0.35 * sheet.tile * um;
    let length = 10 ** Math.floor(Math.log10(most));
    for (const factor of [5, 2]) if (factor * length <= most) { length *= factor; break; }
    const bar = element("div", "bar", `${Number(length.toPrecision(1))} ${unit}`);
    bar.style.width = `${(length / um) * (size / sheet.tile)}px`;
    return bar;
  }

  function drawLarge() {
    const suspect = shown[cursor];
    const image = suspects.image[suspect];
    const seen = element("div", "seen");
    const size = Math.min(LARGE, window.innerWidth - 2 * BORDER);
    seen.append(picture(image, size), scaleBar(image, size));
    const facts = element("div", "facts");
    facts.append(element("h2", "", images.id[image]), element("p", "", reason(suspect)));
    const table = element("table");
    const rows = [
      [data.given_is, classes[given(suspect)].display],
      ["Decision", decided(suspect) || "none yet"],
      ["Score", suspects.score[suspect].toFixed(3)],
      ["Run", data.runs[images.run[image]]],
      [data.size_is, images.um[image] === null ? "unknown" : `${number(images.um[image], 1)} µm`],
      ...details().probability[suspect].map((p, k) => [classes[k].display, percent(p)]),
    ];
    for (const [name, value] of rows) {
      const row = table.insertRow();
      row.append(element("th", "", name), element("td", "", value));
    }
    const near = element("div", "neighbours");
    for (const other of details().neighbours[suspect]) {
      const one = element("figure");
      one.append(picture(other, 88), element("figcaption", "", classes[images.given[other]].display));
      near.append(one);
    }
    facts.append(table);
    if (near.children.length) facts.append(element("h3", "", "Nearest training images"), near);
    $("content").replaceChildren(seen, facts);
  }

  function filter() {
    const wanted = (id) => ($(id).value === "" ? null : Number($(id).value));
    const [label, guess, run] = ["given", "suggested", "run"].map(wanted);
    const [least, small, big] = ["score", "smallest", "largest"].map(wanted);
    const state = $("state").value;
    const before = shown[cursor];
    shown = [];
    for (let suspect = 0; suspect < suspects.image.length; suspect++) {
      const image = suspects.image[suspect];
      const um = images.um[image];
      if (label !== null && images.given[image] !== label) continue;
      if (guess !== null && suspects.suggested[suspect] !== guess) continue;
      if (run !== null && images.run[image] !== run) continue;
      if (least !== null && suspects.score[suspect] < least) continue;
      if (small !== null && !(um >= small)) continue;
      if (big !== null && !(um !== null && um <= big)) continue;
      if (state && (decisions.get(suspect)?.decision ?? "open") !== state) continue;
      shown.push(suspect);
    }
    const kept = new Set(shown);
    for (const suspect of chosen) if (!kept.has(suspect)) chosen.delete(suspect);
    cursor = Math.max(0, shown.indexOf(before));
    draw();
  }

  function decide(decision, label) {
    const targets = chosen.size ? [...chosen] : shown.length ? [shown[cursor]] : [];
    if (!targets.length) return;
    const when = new Date().toISOString();
    history.push(targets.map((suspect) => [suspect, decisions.get(suspect)]));
    for (const suspect of targets) {
      const to = decision === "relabel" ? label ?? suspects.suggested[suspect] : given(suspect);
      const kept = decision === "relabel" && to === given(suspect);
      decisions.set(suspect, { decision: kept ? "keep" : decision, label: to, when });
    }
    if (targets.length === 1 && cursor < shown.length - 1) cursor += 1;
    chosen.clear();
    changed();
  }

  function undo() {
    for (const [suspect, before] of history.pop() ?? []) {
      if (before) decisions.set(suspect, before);
      else decisions.delete(suspect);
    }
    changed();
  }

  function changed() {
    const kept = [...decisions].map(([suspect, made]) => [images.id[suspects.image[suspect]], made]);
    try {
      localStorage.setItem(data.key, JSON.stringify({ who: $("who").value, decisions: kept }));
      $("warning").textContent = "";
    } catch {
      $("warning").textContent = "The browser cannot keep your progress: save the CSV.";
    }
    reveal();
  }

  function reveal() {
    const top = Math.floor(cursor / columns) * TILE.height;
    const view = $("scroller");
    if (top < view.scrollTop) view.scrollTop = top;
    const low = top + TILE.height - view.clientHeight;
    if (low > view.scrollTop) view.scrollTop = low;
    draw();
  }

  const number_of = new Map(suspects.image.map((image, suspect) => [images.id[image], suspect]));

  function restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(data.key) ?? "null");
      if (!kept) return;
      $("who").value = kept.who;
      for (const [id, made] of kept.decisions) {
        if (number_of.has(id)) decisions.set(number_of.get(id), made);
      }
    } catch {
      $("warning").textContent = "The browser cannot keep your progress: save the CSV.";
    }
  }

  // The CSV that data.label_overrides reads.
  const DECISIONS = ["keep", "relabel", "unsure"];
  const HEADER = ["id", "given", "decision", "label", "who", "when", "why"];
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  function csv() {
    const lines = [HEADER];
    for (const [suspect, made] of [...decisions].sort((a, b) => a[0] - b[0])) {
      const id = images.id[suspects.image[suspect]];
      lines.push([id, classes[given(suspect)].name, made.decision, classes[made.label].name,
        $("who").value, made.when, reason(suspect)]);
    }
    return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  }

  function parse(text) {
    const rows = [[""]];
    let inside = false;
    for (let at = 0; at < text.length; at++) {
      const row = rows[rows.length - 1];
      const letter = text[at];
      if (inside && letter === '"' && text[at + 1] === '"') { row[row.length - 1] += '"'; at++; }
      else if (letter === '"') inside = !inside;
      else if (!inside && letter === ",") row.push("");
      else if (!inside && letter === "\n") rows.push([""]);
      else if (inside || letter !== "\r") row[row.length - 1] += letter;
    }
    return rows.filter((row) => row.length > 1);
  }

  // [suspect, its decision] of each row; images that are not shown here have none.
  function read(text) {
    const [header = [], ...rows] = parse(text);
    const missing = ["id", "label"].filter((name) => !header.includes(name));
    if (missing.length) throw new Error(`it has no column ${missing.join(" and no column ")}`);
    const at = Object.fromEntries(header.map((name, column) => [name, column]));
    const named = new Map(classes.map((c, k) => [c.name, k]));
    return rows.map((row) => {
      const suspect = number_of.get(row[at.id]);
      const label = named.get(row[at.label]);
      if (label === undefined) throw new Error(`${row[at.id]} gets no class of this page`);
      const decision = row[at.decision] || (label === given(suspect) ? "keep" : "relabel");
      if (!DECISIONS.includes(decision)) throw new Error(`${row[at.id]}: ${decision} is no decision`);
      return [suspect, { decision, label, when: row[at.when] ?? "" }];
    }).filter(([suspect]) => suspect !== undefined);
  }

  async function load(input) {
    const [file] = input.files;
    try {
      const found = read(await file.text());
      if (!found.length) throw new Error("it names no image of this page");
      history.push(found.map(([suspect]) => [suspect, decisions.get(suspect)]));
      for (const [suspect, made] of found) decisions.set(suspect, made);
      changed();
    } catch (error) {
      $("warning").textContent = `${file.name} is not loaded: ${error.message}.`;
    }
    input.value = ""; // so that it can be chosen again
  }

  function loading() {
    if (document.readyState !== "loading") return false;
    $("count").textContent = "The page is still loading.";
    return true;
  }

  function save() {
    if (loading()) return;
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "label_overrides.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function toggleLarge() {
    if ($("large").open) $("large").close();
    else if (shown.length && !loading()) { $("large").showModal(); drawLarge(); }
  }

  function move(step) {
    cursor = Math.min(Math.max(cursor + step, 0), Math.max(shown.length - 1, 0));
    chosen.clear();
    reveal();
  }

  const KEYS = {
    k: () => decide("keep"), r: () => decide("relabel"), u: () => decide("unsure"), z: undo,
    Enter: toggleLarge, " ": toggleLarge,
    ArrowRight: () => move(1), ArrowLeft: () => move(-1),
    ArrowDown: () => move(columns), ArrowUp: () => move(-columns),
    Escape: () => { if ($("large").open) toggleLarge(); else { chosen.clear(); draw(); } },
    a: () => { shown.forEach((suspect) => chosen.add(suspect)); draw(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || event.altKey || event.metaKey) return;
    if (event.target.matches("button") && " Enter".includes(event.key)) return;
    if (event.ctrlKey && !"za".includes(event.key)) return;
    const digit = Number(event.key);
    const act = classes[digit - 1] ? () => decide("relabel", digit - 1) : KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // A click selects, with Ctrl one more and with Shift a range; a drag selects what it touches.
  const band = element("div", "band");
  let start = null;
  const point = (event) => {
    const box = $("grid").getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const at = ({ x, y }) => {
    const column = Math.floor(x / TILE.width);
    const position = Math.floor(y / TILE.height) * columns + column;
    return column < columns && position < shown.length ? position : -1;
  };
  $("grid").addEventListener("pointerdown", (event) => {
    if (event.button) return;
    start = { ...point(event), kept: event.ctrlKey ? [...chosen] : [] };
    $("grid").setPointerCapture(event.pointerId);
  });
  $("grid").addEventListener("pointermove", (event) => {
    if (!start) return;
    const end = point(event);
    if (Math.hypot(end.x - start.x, end.y - start.y) < 6) return;
    const [left, right] = [start.x, end.x].sort((a, b) => a - b);
    const [top, bottom] = [start.y, end.y].sort((a, b) => a - b);
    band.style.cssText = `display:block;left:${left}px;top:${top}px;` +
      `width:${right - left}px;height:${bottom - top}px`;
    chosen.clear();
    start.kept.forEach((suspect) => chosen.add(suspect));
    const last = Math.min(Math.floor(right / TILE.width), columns - 1);
    for (let row = Math.max(0, Math.floor(top / TILE.height)); row <= bottom / TILE.height; row++) {
      for (let column = Math.max(0, Math.floor(left / TILE.width)); column <= last; column++) {
        const position = row * columns + column;
        if (position < shown.length) chosen.add(shown[position]);
      }
    }
    draw();
  });
  $("grid").addEventListener("pointerup", (event) => {
    const dragged = band.style.display === "block";
    band.style.display = "none";
    const position = at(point(event));
    if (start && !dragged && position >= 0) {
      const [low, high] = [cursor, position].sort((a, b) => a - b);
      if (!event.ctrlKey) chosen.clear();
      if (event.shiftKey) shown.slice(low, high + 1).forEach((suspect) => chosen.add(suspect));
      else if (event.ctrlKey && chosen.has(shown[position])) chosen.delete(shown[position]);
      else chosen.add(shown[position]);
      cursor = position;
    }
    start = null;
    draw();
  });
  $("grid").addEventListener("pointercancel", () => { // a finger scrolls
    band.style.display = "none";
    start = null;
  });
  $("grid").addEventListener("dblclick", toggleLarge);

  const option = (list, value, text) => {
    const made = element("option", "", text);
    made.value = value;
    $(list).append(made);
  };
  classes.forEach((c, k) => { option("given", k, c.display); option("suggested", k, c.display); });
  data.runs.forEach((name, k) => option("run", k, name));
  classes.slice(0, 9).forEach((c, k) => {
    const made = element("button", "", `${k + 1} ${c.display}`);
    made.addEventListener("click", () => decide("relabel", k));
    $("relabel").append(made);
  });
  for (const id of ["given", "suggested", "run", "state", "score", "smallest", "largest"]) {
    $(id).addEventListener("change", (event) => { event.target.blur(); filter(); });
  }
  for (const [id, act] of [["keep", KEYS.k], ["suggestion", KEYS.r], ["unsure", KEYS.u],
    ["undo", undo], ["save", save], ["close", toggleLarge]]) $(id).addEventListener("click", act);
  $("who").addEventListener("change", changed);
  $("load").addEventListener("change", (event) => load(event.target));
  $("scroller").addEventListener("scroll", draw);
  window.addEventListener("resize", draw);
  restore();
  filter();
  document.addEventListener("DOMContentLoaded", () => {
    uris.push(...$("other_sheets").textContent.split("\n"));
    draw();
  });
}
