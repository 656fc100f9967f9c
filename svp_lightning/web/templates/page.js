"use strict";
{
  const AT_ONCE = 4; // uploads side by side
  const WAIT = 400; // ms between looks at a job
  const $ = (id) => document.getElementById(id);
  const suffixes = $("drop").dataset.suffixes.split(" ");
  const chosen = new Map(); // path -> File
  let stopped = null; // of the upload that runs: an AbortController

  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

  function add(path, file) {
    const hidden = path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");
    if (!hidden && suffixes.some((s) => path.toLowerCase().endsWith(s))) chosen.set(path, file);
  }

  function showChosen() {
    const bytes = [...chosen.values()].reduce((sum, file) => sum + file.size, 0);
    const [first, ...others] = new Set([...chosen.keys()].map((path) => path.split("/")[0]));
    $("chosen").hidden = !chosen.size;
    $("chosen_files").textContent = chosen.size
      ? `${plural(chosen.size, "file")}, ${Math.max(bytes / 1e6, 0.1).toFixed(1)} MB (${first}${others.length ? ", …" : ""})` : "";
    $("runs").replaceChildren(...runs().map((name) => new Option(name, name)));
    ready();
  }

  // Names of likely runs: of lists, or else of tables, or else of the folders that hold images.
  function runs() {
    const parts = [...chosen.keys()].map((path) => path.split("/"));
    const found = [/\.(lst|flb)$/i, /\.(csv|txt)$/i]
      .map((suffix) => parts.map((p) => p.at(-1)).filter((name) => suffix.test(name)));
    const tables = found.find((names) => names.length);
    const names = tables?.map((name) => name.replace(/\.\w+$/, "")) ?? parts.map((p) => p.at(-2));
    return [...new Set(names.filter(Boolean))].sort().slice(0, 100);
  }

  function ready() {
    $("start").disabled = !chosen.size || !$("classifier").value || !$("working").hidden;
  }

  function fail(words) {
    $("error").textContent = words;
    $("error").hidden = !words;
  }

  function busy(stage, percent) {
    $("working").hidden = stage === null;
    if (stage !== null && $("stage").textContent !== stage) $("stage").textContent = stage;
    if (percent === null) $("progress").removeAttribute("value");
    else $("progress").value = percent;
    ready();
  }

  // Files of a folder come in parts, until an empty one.
  async function walk(entry, path) {
    if (entry.isFile) {
      add(path, await new Promise((found, failed) => entry.file(found, failed)));
      return;
    }
    const reader = entry.createReader();
    const part = () => new Promise((found, failed) => reader.readEntries(found, failed));
    for (let entries = await part(); entries.length; entries = await part()) {
      await Promise.all(entries.map((inside) => walk(inside, `${path}/${inside.name}`)));
    }
  }

  async function dropped(items) {
    // Before anything is waited for: the list is emptied after the event.
    const entries = items.map((item) => item.webkitGetAsEntry()).filter(Boolean);
    await Promise.all(entries.map((entry) => walk(entry, entry.name)));
    taken();
  }

  function taken() {
    fail(chosen.size ? "" : `None of these files can be read. Known ones end in ${suffixes.join(", ")}.`);
    showChosen();
    if (chosen.size) $("start").focus();
  }

  async function call(method, path, body, signal) {
    let answer;
    try {
      answer = await fetch(path, { method, body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The program does not answer. Is it still running in its terminal?");
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? "The program failed; its terminal says why.");
    return said;
  }

  async function send() {
    stopped = new AbortController();
    const { signal } = stopped;
    const { id } = await call("POST", "/uploads", null, signal);
    const waiting = [...chosen];
    const total = waiting.length;
    let done = 0;
    const worker = async () => {
      while (waiting.length) {
        const [path, file] = waiting.shift();
        await call("PUT", `/uploads/${id}?path=${encodeURIComponent(path)}`, file, signal);
        if (signal.aborted) return;
        done += 1;
        busy("Copying", (100 * done) / total);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return id;
  }

  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const text = (id) => $(id).value.trim() || null;

  async function classify() {
    fail("");
    $("result").replaceChildren();
    busy("Copying", 0);
    try {
      const upload = await send();
      const asked = {
        upload,
        classifier: $("classifier").value,
        kind: $("kind").value,
        volume_ml: text("volume_ml"),
        dilution: number("dilution"),
        pixel_size_um: number("pixel_size_um"),
        container_ml: number("container_ml"),
        blank: text("blank"),
        skip_unreadable: $("skip_unreadable").checked,
      };
      show(await call("POST", "/job", JSON.stringify(asked)));
    } catch (error) {
      stopped.abort();
      busy(null, null);
      if (error.name !== "AbortError") fail(error.message);
    }
  }

  async function look() {
    try {
      show(await call("GET", "/job"));
    } catch (error) {
      busy(null, null);
      fail(error.message);
    }
  }

  function show(job) {
    if (job?.state === "running") {
      busy(`${job.stage} …`, job.percent);
      setTimeout(look, WAIT);
      return;
    }
    busy(null, null);
    if (!job) return;
    fail(job.error);
    $("result").innerHTML = job.html ?? "";
    if (job.state === "done" && stopped) $("result").focus(); // not after a reload
  }

  async function cancel() {
    stopped?.abort();
    try {
      await call("DELETE", "/job");
    } catch (error) {
      fail(error.message);
    }
  }

  for (const [button, input] of [["pick_files", "files"], ["pick_folder", "folder"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      for (const file of $(input).files) add(file.webkitRelativePath || file.name, file);
      $(input).value = "";
      taken();
    });
  }
  // Anywhere on the page: a file dropped next to the field would replace the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    dropped([...event.dataTransfer.items]).catch((error) => fail(`A file cannot be read: ${error.message}`));
  });
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    classify();
  });
  $("clear").addEventListener("click", () => {
    chosen.clear();
    showChosen();
    $("pick_files").focus();
  });
  $("cancel").addEventListener("click", cancel);
  look(); // what was done before the page was reloaded
}
