"use strict";
// The log of a job. Only the lines in view are in the page, whatever the length of the log: lines are fetched by
// number, 500 at a time, and what the server sends as HTML is rebuilt from text and `ansi-…` spans alone.
(() => {
  const log = document.querySelector("[data-log]");
  if (!log) return;
  const base = log.dataset.log, view = log.querySelector(".view"), spacer = log.querySelector(".spacer");
  const box = log.querySelector(".lines"), foot = log.querySelector(".foot"), hits = log.querySelector(".hits");
  const button = (name) => log.querySelector(`[data-log-${name}]`);
  const LINE = 20, CHUNK = 500, KEPT = 60;
  // browsers can't make a box of any height: beyond this the bar stands for more lines than it has room for
  const TALLEST = 6e6;

  let total = 0, size = 0, next = 0, running = "running" in log.dataset, follow = running, wrap = false;
  let sections = [], folded = new Map(), found = [], foundAll = 0, current = -1, linked = null, top = 0;
  const chunks = new Map(), asked = new Map();
  // rows that fit below the furthest one when lines are wrapped; and: is the end to stay in view?
  let endRows = 0, stick = false;

  // --- what is shown: lines without those in folded sections
  const hidden = () => {
    const ranges = [...folded.values()].sort((a, b) => a[0] - b[0]), merged = [];
    for (const [from, to] of ranges) {
      const last = merged.at(-1);
      if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to); else merged.push([from, to]);
    }
    return merged;
  };
  let gaps = [];
  const shown = () => total - gaps.reduce((sum, [from, to]) => sum + (Math.min(to, total) - from + 1), 0);
  const lineAt = (row) => {
    let line = row + 1;
    for (const [from, to] of gaps) { if (line < from) break; line += to - from + 1; }
    return line;
  };
  const rowOf = (line) => {
    let row = line - 1;
    for (const [from, to] of gaps) {
      if (line > to) { row -= to - from + 1; continue; }
      if (line >= from) row -= line - from + 1;
      break;
    }
    return Math.max(0, row);
  };

  // --- fetching
  const key = (line) => Math.floor((line - 1) / CHUNK);
  const get = (line) => chunks.get(key(line))?.[(line - 1) % CHUNK];
  const put = (lines) => {
    for (const line of lines) {
      const at = key(line.line);
      if (!chunks.has(at)) chunks.set(at, []);
      chunks.get(at)[(line.line - 1) % CHUNK] = line;
    }
    if (chunks.size > KEPT) {
      const here = key(lineAt(Math.floor(top)));
      const far = [...chunks.keys()].sort((a, b) => Math.abs(b - here) - Math.abs(a - here));
      far.slice(0, chunks.size - KEPT).forEach((at) => chunks.delete(at));
    }
  };
  const load = async (at) => {
    if (asked.has(at) || at < 0) return;
    const stop = new AbortController();
    asked.set(at, stop);
    try {
      const answer = await fetch(`${base}/lines?from=${at * CHUNK + 1}&count=${CHUNK}`, { credentials: "same-origin", signal: stop.signal });
      if (!answer.ok) throw new Error(answer.status);
      take(await answer.json());
    } catch {
      if (stop.signal.aborted) return;
      setTimeout(() => { asked.delete(at); draw(); }, 2000);
      return;
    }
    asked.delete(at);
  };
  // what was only passed on the way must not hold up what is in view
  const giveUp = (wanted) => {
    for (const [at, stop] of asked) if (!wanted.has(at)) { asked.delete(at); stop.abort(); }
  };
  const take = (answer) => {
    total = Math.max(total, answer.total);
    size = Math.max(size, answer.size || 0);
    put(answer.lines);
    for (const line of answer.lines) {
      for (const name of line.begins || []) begin(name, line.line);
      for (const name of line.ends || []) end(name, line.line);
    }
    draw();
  };
  const begin = (name, line) => {
    if (!sections.some((s) => s.name === name && s.first === line)) sections.push({ name, first: line, last: null });
  };
  const end = (name, line) => {
    const open = sections.filter((s) => s.name === name && s.last === null && s.first <= line).at(-1);
    if (open) open.last = line;
  };

  // --- drawing
  const clean = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    const copy = (from, to) => {
      for (const node of from.childNodes) {
        if (node.nodeType === Node.TEXT_NODE) to.append(node.data);
        else if (node.nodeName === "SPAN") {
          const span = document.createElement("span");
          span.className = [...node.classList].filter((name) => /^ansi-[a-z0-9-]+$/.test(name)).join(" ");
          copy(node, span);
          to.append(span);
        }
      }
      return to;
    };
    return copy(template.content, document.createElement("span"));
  };
  const lower = (text) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  // marks what is searched for; a text that a change of colour divides stays as it is
  const mark = (text, wanted) => {
    const walk = document.createTreeWalker(text, NodeFilter.SHOW_TEXT), nodes = [];
    while (walk.nextNode()) nodes.push(walk.currentNode);
    for (let node of nodes) {
      for (let at; (at = lower(node.data).indexOf(wanted)) >= 0;) {
        const hit = node.splitText(at);
        node = hit.splitText(wanted.length);
        const box = document.createElement("mark");
        hit.replaceWith(box);
        box.append(hit);
      }
    }
  };
  const length = (s) => s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
  const row = (number) => {
    const line = get(number), div = document.createElement("div"), no = document.createElement("a");
    div.className = "line";
    div.dataset.line = number;
    if (linked && number >= linked[0] && number <= linked[1]) div.classList.add("linked");
    if (found.length && foundSet.has(number)) div.classList.add("hit");
    if (found[current] === number) div.classList.add("now");
    no.className = total > 99999 ? "no wide" : "no";
    no.href = `#L${number}`;
    no.textContent = number;
    if (line?.at) no.title = new Date(line.at).toLocaleString();
    div.append(no);
    const section = sections.find((s) => s.first === number);
    if (section && section.last !== number) {
      const fold = document.createElement("button"), closed = folded.has(section.first);
      fold.className = "fold";
      fold.textContent = closed ? "▸" : "▾";
      fold.setAttribute("aria-expanded", String(!closed));
      fold.setAttribute("aria-label", `section ${section.name}`);
      div.append(fold);
    } else {
      div.append(Object.assign(document.createElement("span"), { className: "fold" }));
    }
    const text = line ? clean(line.html) : document.createElement("span");
    text.className = "text";
    if (line && lastQuery && foundSet.has(number)) mark(text, lower(lastQuery));
    div.append(text);
    if (section?.started_at && section?.ended_at) {
      div.append(Object.assign(document.createElement("span"), { className: "took", textContent: length(section.ended_at - section.started_at) }));
    }
    return div;
  };
  const inView = () => Math.max(1, Math.floor(view.clientHeight / LINE));
  const height = () => Math.min(TALLEST, shown() * LINE) + (wrap ? Math.max(0, view.clientHeight - (endRows || inView()) * LINE) : 0);
  const scaled = () => shown() * LINE > TALLEST;
  const furthest = () => Math.max(0, shown() - (wrap && endRows || inView()));
  // how many of the last lines fill the view, each as high as it is; true: it is to be painted again
  let measured = "";
  const measure = (first) => {
    const now = `${shown()} ${view.clientHeight} ${view.clientWidth}`;
    if (measured === now) return false;
    if (first > 0 && box.children.length < inView()) { endRows = 0; return true; }
    let room = view.clientHeight, fit = 0;
    for (const el of [...box.children].reverse()) { room -= el.offsetHeight; if (room < 0) break; fit += 1; }
    endRows = Math.max(1, fit);
    measured = now;
    return true;
  };
  let drawn = false;
  const draw = () => { if (!drawn) { drawn = true; requestAnimationFrame(paint); } };
  const paint = () => {
    drawn = false;
    gaps = hidden();
    spacer.style.height = `${height()}px`;
    if (follow || stick) top = furthest();
    top = Math.min(Math.max(0, top), furthest());
    const first = Math.floor(top), count = Math.min(inView() + 12, shown() - first);
    const rows = [], wantedChunks = new Set();
    for (let at = first; at < first + count; at += 1) {
      const number = lineAt(at);
      rows.push(row(number));
      if (!get(number)) wantedChunks.add(key(number));
    }
    box.replaceChildren(...rows);
    const y = scrollFor(top);
    box.style.transform = `translateY(${scaled() || wrap ? y : first * LINE}px)`;
    if (Math.abs(view.scrollTop - y) > 1 && (follow || stick || moved)) { ours = true; view.scrollTop = y; }
    moved = false;
    if (wrap && rows.length && first + count >= shown() && !wantedChunks.size && measure(first)) return paint();
    const near = rows.length ? key(lineAt(Math.min(shown() - 1, first + count + CHUNK / 2))) : -1;
    giveUp(new Set([...wantedChunks, near]));
    wantedChunks.forEach(load);
    if (!chunks.has(near) && near * CHUNK < total) load(near);
    say();
  };
  // place of the bar for a row, and back
  let ours = false, moved = false;
  const room = () => Math.max(1, spacer.offsetHeight - view.clientHeight);
  const scrollFor = (at) => scaled() ? at / Math.max(1, furthest()) * room() : at * LINE;
  const rowFor = (y) => scaled() ? y / room() * furthest() : y / LINE;
  const go = (at, end = false) => { top = at; stick = end; moved = true; draw(); };
  view.addEventListener("scroll", () => {
    if (ours) { ours = false; return; }
    stick = false;
    const to = rowFor(view.scrollTop);
    if (follow && to < furthest() - 1) setFollow(false);
    top = to;
    if (running && to >= furthest() - .5 && !follow && view.scrollTop > 0) setFollow(true);
    draw();
  });
  // a bar that stands for many lines is too coarse for a wheel
  view.addEventListener("wheel", (event) => {
    if (!scaled() || event.ctrlKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    event.preventDefault();
    if (event.deltaY < 0) setFollow(false);
    go(top + (event.deltaMode === 1 ? event.deltaY : event.deltaY / LINE));
  }, { passive: false });
  view.addEventListener("keydown", (event) => {
    const page = inView() - 2, moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, " ": page };
    if (event.key in moves) { if (moves[event.key] < 0) setFollow(false); go(top + moves[event.key]); }
    else if (event.key === "Home") { setFollow(false); go(0); }
    else if (event.key === "End") go(furthest(), true);
    else return;
    event.preventDefault();
  });
  const bytes = (n) => n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
  let trouble = "";
  const say = () => {
    const text = trouble || (total ? `${total.toLocaleString("en")} line${total === 1 ? "" : "s"}, ${bytes(size)}${running ? " so far" : ""}` : running ? "No line yet." : "The log is empty.");
    if (foot.textContent !== text) foot.textContent = text;
  };
  new ResizeObserver(draw).observe(view);

  // --- folding, links
  const setFold = (section, closed) => {
    if (closed) folded.set(section.first, [section.first + 1, section.last ?? total]); else folded.delete(section.first);
  };
  box.addEventListener("click", (event) => {
    const number = +event.target.closest(".line")?.dataset.line;
    if (event.target.closest(".fold")) {
      const section = sections.find((s) => s.first === number);
      if (section) { setFollow(false); setFold(section, !folded.has(section.first)); draw(); }
    } else if (event.target.closest(".no")) {
      event.preventDefault();
      const from = event.shiftKey && linked ? Math.min(linked[0], number) : number;
      const to = event.shiftKey && linked ? Math.max(linked[0], number) : number;
      history.replaceState(null, "", from === to ? `#L${from}` : `#L${from}-L${to}`);
      linked = [from, to];
      setFollow(false);
      draw();
    }
  });
  const unfold = (line) => { for (const [first, [from, to]] of folded) if (line >= from && line <= to) folded.delete(first); };
  const jump = (line) => { setFollow(false); unfold(line); gaps = hidden(); go(rowOf(line) - Math.floor(inView() / 3)); };
  const fromHash = () => {
    const match = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
    if (!match) return false;
    linked = [+match[1], +(match[2] || match[1])];
    jump(linked[0]);
    return true;
  };
  addEventListener("hashchange", fromHash);

  // --- buttons
  const setFollow = (on) => { follow = on && running; button("follow").setAttribute("aria-pressed", String(follow)); };
  button("follow").addEventListener("click", () => { setFollow(!follow); draw(); });
  const setWrap = (on) => {
    wrap = on;
    log.classList.toggle("wrap", wrap);
    button("wrap").setAttribute("aria-pressed", String(wrap));
    go(top, stick);
  };
  button("wrap").addEventListener("click", () => setWrap(!wrap));
  button("top").addEventListener("click", () => { setFollow(false); go(0); });
  button("end").addEventListener("click", () => { setFollow(true); go(furthest(), true); });

  // --- search: on the server, which has all of it
  const box2 = log.querySelector("input[type=search]");
  let foundSet = new Set(), searchTimer = 0, lastQuery = "";
  const search = async () => {
    const q = box2.value;
    lastQuery = q;
    if (!q) { found = []; foundAll = 0; current = -1; foundSet = new Set(); hits.textContent = ""; return draw(); }
    hits.textContent = "…";
    try {
      const answer = await fetch(`${location.pathname}/search?q=${encodeURIComponent(q)}`, { credentials: "same-origin" });
      if (q !== lastQuery) return;
      const body = await answer.json();
      found = body.lines || [];
      foundAll = body.count || 0;
    } catch { found = []; foundAll = 0; }
    foundSet = new Set(found);
    current = -1;
    if (found.length) step(1); else { hits.textContent = "nothing"; draw(); }
  };
  const step = (by) => {
    if (!found.length) return;
    current = current < 0 ? Math.max(0, found.findIndex((line) => line >= lineAt(Math.floor(top)))) : (current + by + found.length) % found.length;
    hits.textContent = `${(current + 1).toLocaleString("en")} of ${foundAll.toLocaleString("en")}`;
    hits.title = foundAll > found.length ? `The first ${found.length.toLocaleString("en")} can be visited.` : "";
    jump(found[current]);
  };
  box2.addEventListener("input", () => { clearTimeout(searchTimer); searchTimer = setTimeout(search, 250); });
  box2.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (box2.value !== lastQuery) { clearTimeout(searchTimer); search(); } else step(event.shiftKey ? -1 : 1);
  });
  button("next").addEventListener("click", () => step(1));
  button("previous").addEventListener("click", () => step(-1));

  // --- growing: a stream that goes on where it broke off, because events are numbered by bytes
  let stream = null;
  const watch = () => {
    if (stream || !running || document.hidden) return;
    stream = new EventSource(`${base}/events?offset=${next}`);
    stream.addEventListener("lines", (event) => {
      const body = JSON.parse(event.data);
      next = body.next;
      trouble = "";
      take(body);
    });
    stream.addEventListener("end", () => {
      running = false;
      stream.close();
      setFollow(follow);
      button("follow").hidden = true;
      say();
    });
    stream.onerror = () => {
      trouble = "The line to the server broke off; it goes on where it was.";
      say();
      if (stream.readyState === EventSource.CLOSED) { stream = null; setTimeout(watch, 3000); }
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream?.close(); stream = null; } else watch();
  });
  addEventListener("pagehide", () => { stream?.close(); stream = null; });

  // --- start: the part that is asked for, else the end of what runs or failed, else the beginning
  const start = async () => {
    const hash = /^#L(\d+)/.exec(location.hash);
    const from = hash ? Math.max(1, +hash[1] - 100) : running ? -300 : 1;
    try {
      const answer = await fetch(`${base}/lines?from=${from}&count=${CHUNK}&sections=true`, { credentials: "same-origin" });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || `the server answered ${answer.status}`);
      const body = await answer.json();
      sections = body.sections || [];
      next = body.next;
      take(body);
      sections.filter((s) => s.collapsed && s.last !== null).forEach((s) => setFold(s, true));
      if (body.total > 0 && running && body.lines.length && body.lines.at(-1).line < body.total) next = body.lines.at(-1).offset;
    } catch (error) {
      trouble = `The log can't be read: ${error.message}`;
      return say();
    }
    setFollow(running && !hash);
    button("follow").hidden = !running;
    if (!fromHash()) draw();
    watch();
  };
  // a phone is narrower than most lines
  if (matchMedia("(max-width: 40rem)").matches) setWrap(true);
  start();
})();
