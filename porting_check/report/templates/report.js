// Sorting, filtering, opening and copying. The page is complete without it; nothing here builds HTML from text.
"use strict";
(() => {
  const table = document.getElementById("table");
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  document.documentElement.classList.add("js");
  all("[hidden]").forEach((element) => { element.hidden = false; });

  for (const holder of all(".fix")) {
    const button = document.createElement("button");
    const code = holder.querySelector("pre");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    (holder.querySelector("dd") || holder).append(button);
  }
  if (!table) return;

  const pairs = all(".pair", table);
  const find = document.getElementById("find");
  const chips = all(".chip");
  const shown = document.getElementById("shown");
  const words = new Map(pairs.map((pair) => [pair, pair.rows[0].textContent.toLowerCase()]));
  let current = null;

  const filter = () => {
    const wanted = chips.filter((chip) => chip.ariaPressed === "true").map((chip) => chip.dataset.verdict);
    const text = find.value.trim().toLowerCase();
    let visible = 0;
    for (const pair of pairs) {
      const fits = (!wanted.length || wanted.includes(pair.dataset.verdict)) && words.get(pair).includes(text);
      pair.hidden = !fits;
      visible += fits;
    }
    shown.textContent = visible === pairs.length ? `${visible} pairs` : `${visible} of ${pairs.length} pairs`;
  };
  find.addEventListener("input", filter);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.ariaPressed = String(chip.ariaPressed !== "true");
      filter();
    });
  }

  // Python writes inf and nan; what is not a number counts as the largest, what is absent as the smallest.
  const value = (cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    if (text === "") return -1;
    return text === "inf" || text === "nan" ? Infinity : Number(text);
  };
  const compare = (column, numeric) => (one, other) => {
    const left = one.rows[0].cells[column];
    const right = other.rows[0].cells[column];
    if (!numeric) return left.textContent.localeCompare(right.textContent);
    const [a, b] = [value(left), value(right)];
    return a === b ? 0 : a < b ? -1 : 1;
  };
  all("thead th", table).slice(0, 7).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.dataset.sort === "number";
      const before = head.ariaSort;
      const up = before ? before === "descending" : column === 0 || !numeric;
      all("th[aria-sort]", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = up ? "ascending" : "descending";
      pairs.sort(compare(column, numeric));
      if (!up) pairs.reverse();
      table.append(...pairs);
    });
  });

  const open = (pair, wanted = !pair.classList.contains("opened")) => {
    pair.classList.toggle("opened", wanted);
    pair.querySelector(".open").ariaExpanded = String(wanted);
  };
  const visit = (pair) => {
    if (!pair) return;
    current?.classList.remove("current");
    current = pair;
    current.classList.add("current");
    current.querySelector(".open").focus({ preventScroll: true });
    current.scrollIntoView({ block: "nearest" });
  };
  table.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row || getSelection().toString()) return;
    event.preventDefault();
    const pair = row.parentElement;
    open(pair);
    if (pair.classList.contains("opened")) history.replaceState(null, "", `#${pair.id}`);
  });
  const follow = () => {
    const pair = document.getElementById(location.hash.slice(1));
    if (!pair?.classList.contains("pair")) return;
    if (pair.hidden) {
      chips.forEach((chip) => { chip.ariaPressed = "false"; });
      find.value = "";
      filter();
    }
    open(pair, true);
    pair.scrollIntoView({ block: "start" });
  };
  addEventListener("hashchange", follow);
  // Rows get their height when they come into view, so what was scrolled to while loading may have moved since.
  addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(follow)));

  const step = (way, test = () => true) => {
    const list = pairs.filter((pair) => !pair.hidden);
    const start = current ? list.indexOf(current) : way > 0 ? -1 : list.length;
    for (let at = start + way; at >= 0 && at < list.length; at += way) if (test(list[at])) return visit(list[at]);
  };
  const keys = {
    "/": () => find.focus(),
    j: () => step(1),
    k: () => step(-1),
    n: () => step(1, (pair) => pair.dataset.verdict === "divergent"),
    Escape: () => pairs.forEach((pair) => open(pair, false)),
  };
  addEventListener("keydown", (event) => {
    if (event.target === find) {
      if (event.key === "Escape") { find.value = ""; filter(); find.blur(); }
      return;
    }
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  pairs.forEach((pair) => open(pair, false));
  filter();
  follow();
})();
