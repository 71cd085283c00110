"use strict";
// What is live on every page: sections that are fetched again when the server says that they changed, times that go
// on, and keys. Without this script all pages are whole; they only stand still.
(() => {
  // sections: an element with an id and data-live="TOPIC …"; `all` matches everything
  const sections = () => [...document.querySelectorAll("[data-live][id]")];
  let wanted = new Set(), timer = 0, fetching = false, last = 0;

  const touch = (topics) => {
    for (const section of sections()) {
      const own = section.dataset.live.split(" ");
      if (topics.includes("all") || own.some((topic) => topics.includes(topic))) wanted.add(section.id);
    }
    if (wanted.size && !timer && !fetching) timer = setTimeout(refresh, Math.max(60, 700 - (Date.now() - last)));
  };

  const refresh = async () => {
    timer = 0;
    if (document.hidden) return;
    const ids = [...wanted];
    wanted = new Set();
    fetching = true;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") return location.reload();
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      // the job began: its log is a part that was not there
      if (page.getElementById("log") && !document.getElementById("log")) return location.reload();
      for (const id of ids) replace(document.getElementById(id), page.getElementById(id));
      if (page.title !== document.title) document.title = page.title;
    } catch {
      ids.forEach((id) => wanted.add(id));
    } finally {
      fetching = false;
      if (wanted.size && !timer) timer = setTimeout(refresh, 1500);
    }
  };

  // What a person has open, has at hand, or is writing stays.
  const replace = (old, fresh) => {
    if (!old || !fresh) return;
    fresh.querySelectorAll("[data-log]").forEach((log) => log.remove());
    const same = (node) => node.innerHTML.replace(/<(time|span)[^>]* data-(ago|since)[^>]*>[^<]*/g, "");
    if (same(old) === same(fresh)) return;
    if (old.contains(document.activeElement) && /INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) return;
    if ([...old.querySelectorAll("input:not([type=hidden]), textarea")].some((el) => el.value !== el.defaultValue || el.checked !== el.defaultChecked && "checked" in el)) return;
    const said = statusOf(old);
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    const path = focusPath(old), scrolled = [...old.querySelectorAll(".scroll, .stages")].map((el) => el.scrollLeft);
    old.replaceChildren(...fresh.childNodes);
    if (open.length) old.querySelectorAll("details").forEach((details, at) => { if (open[at] !== undefined) details.open = open[at]; });
    old.querySelectorAll(".scroll, .stages").forEach((el, at) => { el.scrollLeft = scrolled[at] || 0; });
    if (path) old.querySelector(path)?.focus({ preventScroll: true });
    const now = statusOf(old);
    if (now && now !== said) document.getElementById("said").textContent = now;
    show(at, false);
  };
  const statusOf = (section) => section.querySelector(".head .status")?.textContent.trim();
  const focusPath = (section) => {
    const el = document.activeElement;
    if (!section.contains(el)) return null;
    if (el.getAttribute("href")) return `a[href="${CSS.escape(el.getAttribute("href"))}"]`;
    return null;
  };

  // the line to the server; a tab that nobody sees holds none, because browsers have few for each server
  let events = null, broken = false;
  const connect = () => {
    if (events || document.hidden || !("signedIn" in document.body.dataset) || !sections().length) return;
    events = new EventSource("/events");
    events.onopen = () => {
      document.getElementById("away").hidden = true;
      if (broken) touch(["all"]);
      broken = false;
    };
    events.onmessage = (event) => touch(event.data.split(" "));
    events.onerror = () => {
      broken = true;
      if (events?.readyState === EventSource.CLOSED) { events = null; setTimeout(connect, 5000); }
      setTimeout(() => { if (broken) document.getElementById("away").hidden = false; }, 4000);
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { events?.close(); events = null; broken = true; } else { connect(); }
  });
  addEventListener("pagehide", () => { events?.close(); events = null; broken = true; });
  addEventListener("pageshow", connect);

  // times
  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000)), d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
    return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
  };
  const ago = (at) => {
    const far = Math.abs(Date.now() - at) / 1000;
    const rough = far < 45 ? "" : far < 5400 ? `${Math.round(far / 60)} min` : far < 129600 ? `${Math.round(far / 3600)} h` : `${Math.round(far / 86400)} d`;
    return !rough ? "just now" : at > Date.now() ? `in ${rough}` : `${rough} ago`;
  };
  const say = (el, text) => { if (el.textContent !== text) el.textContent = text; };
  setInterval(() => {
    if (document.hidden) return;
    document.querySelectorAll("[data-ago]").forEach((el) => say(el, ago(+el.dataset.ago)));
    document.querySelectorAll("[data-since]").forEach((el) => say(el, span(Date.now() - el.dataset.since)));
  }, 1000);

  // questions before what can't be undone
  document.addEventListener("submit", (event) => {
    const text = event.submitter?.dataset.confirm;
    if (text && !confirm(text)) event.preventDefault();
  });

  // forms that speak to the API: data-api="METHOD /path". Names with a dot are parts of an object; data-as says what a
  // value is besides a text; an empty field is left out, unless data-empty says that it means something; a file is the
  // whole body. data-typed is what must be written where data-type stands. data-then says where to go ({name} of the
  // answer); data-show shows the answer, which is told once
  const valueOf = (el) => {
    const as = el.dataset.as, lines = el.value.split(/[,\n]/).map((t) => t.trim()).filter(Boolean);
    if (el.type === "checkbox") return el.checked;
    if (as === "list") return lines;
    if (as === "pairs") return Object.fromEntries(el.value.split("\n").filter((t) => t.trim()).map((t) => [t.split("=")[0].trim(), t.split("=").slice(1).join("=")]));
    return as === "bool" ? el.value === "true" : el.type === "number" ? Number(el.value) : el.value;
  };
  const bodyOf = (form) => {
    const file = form.querySelector("input[type=file]")?.files[0], body = {};
    if (file) return file;
    for (const el of form.elements) {
      if (!el.name || (el.type !== "checkbox" && el.value === "" && !("empty" in el.dataset))) continue;
      const [first, second] = el.name.split(".");
      if (second) (body[first] ||= {})[second] = valueOf(el); else body[first] = valueOf(el);
    }
    return JSON.stringify(body);
  };
  const send = async (form, button) => {
    const [method, path] = (button?.dataset.api || form.dataset.api).split(" ");
    form.querySelector(".alert")?.remove();
    const tell = (text) => form.append(Object.assign(document.createElement("p"), { className: "alert", role: "alert", textContent: text }));
    if (form.dataset.typed && form.querySelector("[data-type]").value !== form.dataset.typed) return tell(`This is not \`${form.dataset.typed}\`.`);
    const body = bodyOf(form), buttons = form.querySelectorAll("button");
    buttons.forEach((b) => { b.disabled = true; });
    try {
      const csrf = document.querySelector("meta[name=csrf]").content;
      const answer = await fetch(path, { method, credentials: "same-origin", headers: { "content-type": "application/json", "x-csrf-token": csrf }, body: method === "DELETE" ? undefined : body });
      const text = await answer.text(), told = text.startsWith("{") ? JSON.parse(text) : {};
      if (!answer.ok) tell(told.message || `the server answered ${answer.status}`);
      else if ("show" in form.dataset) present(form, told);
      else if (form.dataset.then) return location.assign(form.dataset.then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(told[name])));
      else { form.reset(); return location.reload(); }
    } catch (error) {
      tell(`The server can't be reached: ${error.message}`);
    }
    buttons.forEach((b) => { b.disabled = false; });
  };
  const present = (form, told) => {
    const list = document.createElement("dl");
    list.className = "facts-list wide told";
    const add = (key, value) => {
      if (value !== null && typeof value === "object") { Object.entries(value).forEach(([k, v]) => add(k, v)); return; }
      if (value === null || value === "") return;
      list.append(Object.assign(document.createElement("dt"), { textContent: key.replaceAll("_", " ") }), Object.assign(document.createElement("dd"), { textContent: value }));
    };
    add("", told);
    const note = Object.assign(document.createElement("p"), { className: "why waits", role: "status", textContent: form.dataset.show || "Keep what is secret here: it is not shown again." });
    form.replaceWith(note, list);
  };
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || !event.target.dataset.api) return;
    event.preventDefault();
    send(event.target, event.submitter);
  });

  // the place where one is, in navigations that don't fit
  document.querySelectorAll("nav [aria-current]").forEach((el) => { el.parentElement.scrollLeft = el.offsetLeft - el.parentElement.offsetLeft - 40; });

  // keys
  let at = -1, leader = 0;
  const rows = () => [...document.querySelectorAll("main [data-row]")];
  function show(to, scroll) {
    const all = rows();
    document.querySelectorAll("[data-row].at").forEach((row) => row.classList.remove("at"));
    if (to < 0 || !all.length) return;
    at = Math.min(to, all.length - 1);
    all[at].classList.add("at");
    if (scroll) {
      all[at].scrollIntoView({ block: "nearest" });
      (all[at].querySelector("[data-open]") || all[at]).focus({ preventScroll: true });
    }
  }
  const places = { h: "/", p: "/projects", e: "/environments", q: "/queue", a: "/approvals" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const writing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
    if (writing) { if (event.key === "Escape") event.target.blur(); return; }
    const afterG = leader && Date.now() - leader < 1200;
    leader = 0;
    if (afterG && places[event.key]) location.href = places[event.key];
    else if (event.key === "g") leader = Date.now();
    else if (event.key === "j") show(at + 1, true);
    else if (event.key === "k") show(Math.max(0, at - 1), true);
    else if (event.key === "u") { const up = document.querySelector("[data-up]")?.dataset.up || document.querySelector(".place .path a")?.href; if (up) location.href = up; }
    else if (event.key === "/") document.querySelector("[data-search]")?.focus();
    else if (event.key === "?") document.getElementById("keys").showModal();
    else return;
    event.preventDefault();
  });

  connect();
})();
