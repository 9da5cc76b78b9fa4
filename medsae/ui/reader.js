const el = (name, props = {}, ...children) => { const e = document.createElement(name);
  for (const [k, v] of Object.entries(props)) k in e ? e[k] = v : e.setAttribute(k, v); e.append(...children); return e; };
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
// What a reader has answered and the server has not yet said to be kept stays here and in this browser's storage: it is
// sent again until it is kept, also after the tab was closed.
const states = new Map();
const TOO_SOON_MS = 100; // nobody has seen an image so soon: a key that was pressed twice
const nonce = () => (crypto.randomUUID ? crypto.randomUUID() : Date.now().toString(36) + Math.random().toString(36).slice(2));
// Each tab has a place of its own in the storage: two tabs of one reader do not overwrite each other's.
const stored = (place) => { try { return Object.keys(localStorage).filter((k) => k.startsWith("medsae:" + place + "#")); } catch { return []; } };
const fetched = (key) => { try { return JSON.parse(localStorage.getItem(key) || "[]"); } catch { return []; } };
const stateOf = (place) => {
  if (!states.has(place)) {
    const pending = stored(place).flatMap(fetched);
    states.set(place, { place, own: "medsae:" + place + "#" + nonce(), pending, items: [], answered: new Set(pending.filter((p) => p.kind === "answer").map((p) => p.task + ":" + p.image)),
      last: [], shown: null, since: 0, spent: 0, paused: false, center: 0.5, width: 1, invert: false, sources: new Map(), asked: "", needed: "" });
  }
  return states.get(place);
};
export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".root");
  if (!data || !data.place) { root.replaceChildren(); return; }
  const s = stateOf(data.place), name = (i) => i.task + ":" + i.image;
  const kept = new Set(data.kept || []);
  const put = (key, list) => { try { list.length ? localStorage.setItem(key, JSON.stringify(list)) : localStorage.removeItem(key); } catch { /* full or forbidden: memory has it */ } };
  const keep = () => put(s.own, s.pending);
  for (const key of stored(s.place)) if (key !== s.own) put(key, fetched(key).filter((p) => !kept.has(p.key)));
  s.pending = s.pending.filter((p) => !kept.has(p.key));
  keep();
  for (const item of data.items) if (item.src && !s.sources.has(name(item))) { const image = new Image(); image.src = item.src; image.decode().catch(() => {}); s.sources.set(name(item), image); }
  s.items = data.items; s.done = data.done; s.total = data.total;
  // One message a moment: what was answered since is in the next one, and in every one until it is kept.
  const send = (more = []) => component.setStateValue("answers", [...s.pending, ...more, { kind: "tick", key: nonce() }]);
  const hidden = () => s.paused || document.hidden;
  const clock = () => { if (s.since && !hidden()) { s.spent += performance.now() - s.since; } s.since = hidden() ? 0 : performance.now(); };
  const say = (kind, item, said) => {
    clock();
    s.pending.push({ kind, task: item.task, image: item.image, said, seconds: Math.round(s.spent) / 1000, key: nonce() });
    keep();
  };
  const answer = (said) => {
    const item = s.shown;
    if (!item || s.paused || performance.now() - s.painted < TOO_SOON_MS) return;
    say("answer", item, said);
    s.answered.add(name(item)); s.last.push(item); s.shown = null;
    draw(); send();
  };
  const back = () => {
    const item = s.last.pop();
    if (!item) return;
    say("back", item, ""); s.answered.delete(name(item)); s.front = item; s.shown = null;
    draw(); send();
  };
  const pause = () => { clock(); s.paused = !s.paused; s.since = s.paused ? 0 : performance.now(); draw(); };
  const button = (role, text, key, onclick) => { const b = el("button", { type: "button", onclick }, text, el("kbd", { textContent: key })); b.dataset.role = role; return b; };
  const NS = "http://www.w3.org/2000/svg", id = "rd" + Math.random().toString(36).slice(2);
  const svg = document.createElementNS(NS, "svg"), filter = document.createElementNS(NS, "filter"), transfer = document.createElementNS(NS, "feComponentTransfer");
  svg.setAttribute("width", 0); svg.setAttribute("height", 0); svg.style.position = "absolute";
  filter.setAttribute("id", id); filter.setAttribute("color-interpolation-filters", "sRGB");
  const funcs = ["R", "G", "B"].map((c) => { const f = document.createElementNS(NS, "feFunc" + c); f.setAttribute("type", "linear"); transfer.append(f); return f; });
  filter.append(transfer); svg.append(filter);
  const img = el("img", { alt: "the image to read", draggable: false });
  const veil = el("div", { className: "veil" });
  const stage = el("div", { className: "stage", title: "drag: window and level" }, img, veil);
  const w = el("input", { type: "range", min: "0.05", max: "1.5", step: "0.01", id: id + "w" }), c = el("input", { type: "range", min: "0", max: "1", step: "0.01", id: id + "c" });
  const invert = button("invert", "invert ", "i", () => { s.invert = !s.invert; window_(); });
  const reset = button("reset", "reset ", "r", () => { Object.assign(s, { center: 0.5, width: 1, invert: false }); window_(); });
  const window_ = () => {
    const slope = (s.invert ? -1 : 1) / s.width, intercept = 0.5 - s.center * slope;
    funcs.forEach((f) => { f.setAttribute("slope", slope); f.setAttribute("intercept", intercept); });
    img.style.filter = "url(#" + id + ")"; w.value = s.width; c.value = s.center; invert.setAttribute("aria-pressed", s.invert);
  };
  w.oninput = () => { s.width = +w.value; window_(); }; c.oninput = () => { s.center = +c.value; window_(); };
  let from = null;
  stage.onpointerdown = (e) => { from = [e.clientX, e.clientY, s.width, s.center]; stage.setPointerCapture(e.pointerId); };
  stage.onpointermove = (e) => { if (from) { s.width = clamp(from[2] + (e.clientX - from[0]) / 500, 0.05, 1.5); s.center = clamp(from[3] + (e.clientY - from[1]) / 500, 0, 1); window_(); } };
  stage.onpointerup = stage.onpointercancel = () => { from = null; };
  const title = el("div", { className: "name" }), about = el("div", { className: "soft" });
  const said = [button("yes", "yes ", "y", () => answer("yes")), button("no", "no ", "n", () => answer("no")), button("unsure", "cannot tell ", "c", () => answer("unsure"))];
  const undo = button("back", "take back the last ", "b", back), stop = button("pause", "pause ", "p", pause);
  const bar = el("progress", { "aria-label": "answered" }), count = el("div", { className: "soft" }), trouble = el("div", { className: "trouble", role: "status" });
  const draw = () => {
    const left = [...(s.front ? [s.front] : []), ...s.items.filter((i) => !s.front || name(i) !== name(s.front))].filter((i) => !s.answered.has(name(i)));
    const known = left.find((i) => s.sources.has(name(i)));
    if (s.shown && s.answered.has(name(s.shown))) s.shown = null;
    if (!s.shown && known) {
      s.shown = known; s.front = null; s.spent = 0; s.since = hidden() ? 0 : performance.now();
      img.src = s.sources.get(name(known)).src;
      s.painted = performance.now();
    } else if (s.shown) img.src = s.sources.get(name(s.shown)).src;
    const item = s.shown, waiting = !item && s.total > s.answered.size && data.done + s.pending.length < s.total;
    veil.style.display = item && !s.paused ? "none" : "grid";
    veil.textContent = s.paused ? "Paused: the image is hidden and the clock stands. Press p to go on." : waiting ? "…" : "Finished: every image is answered. Thank you.";
    title.textContent = item ? item.name : ""; about.textContent = item ? item.about : "";
    said.forEach((b) => { b.disabled = !item || s.paused; }); undo.disabled = !s.last.length; stop.firstChild.textContent = s.paused ? "go on " : "pause ";
    const done = Math.min(s.total, s.done + s.pending.filter((p) => p.kind === "answer").length - s.pending.filter((p) => p.kind === "back").length);
    bar.max = s.total; bar.value = done; count.textContent = `${done} of ${s.total} answered`;
    trouble.textContent = data.trouble ? data.trouble : "";
    root.dataset.item = item ? name(item) : ""; root.dataset.pending = s.pending.length; root.dataset.done = done;
    window_();
  };
  const side = el("div", { className: "side" }, el("div", { className: "soft", textContent: data.question }), title, about,
    el("div", { className: "answers" }, ...said), el("div", { className: "row" }, undo, stop), bar, count, trouble,
    el("label", { htmlFor: id + "w", textContent: "window (contrast)" }), w, el("label", { htmlFor: id + "c", textContent: "level (brightness)" }), c, el("div", { className: "row" }, invert, reset));
  const keys = (e) => {
    if (e.metaKey || e.ctrlKey || e.altKey || e.repeat) return;
    const at = e.composedPath()[0];
    if (at.isContentEditable || (/^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName) && at.type !== "range")) return;
    const does = { y: () => answer("yes"), n: () => answer("no"), c: () => answer("unsure"), b: back, p: pause, i: () => invert.click(), r: () => reset.click() }[e.key.toLowerCase()];
    if (does) { e.preventDefault(); e.stopPropagation(); does(); }
  };
  const away = () => { if (document.hidden) { if (s.since) s.spent += performance.now() - s.since; s.since = 0; } else if (!s.paused) s.since = performance.now(); };
  // The focus stays where it was: this is drawn again after every answer that the server has kept.
  const focused = root.getRootNode().activeElement, role = focused && focused.dataset ? focused.dataset.role : null;
  root.replaceChildren(el("div", { className: "reader" }, stage, side), svg);
  if (role) root.querySelector(`[data-role=${role}]`)?.focus();
  draw();
  // This runs again with every answer that is kept: the listeners of the run before go first, or a key would count twice.
  s.off?.();
  document.addEventListener("keydown", keys); document.addEventListener("visibilitychange", away);
  // What an earlier visit left unsent, and what a lost connection kept back.
  const unsent = s.pending.map((p) => p.key).join();
  let again = null;
  if (unsent) again = setTimeout(send, unsent === s.asked ? 3000 : 0);
  s.asked = unsent;
  // Pictures that were sent to a page that is gone.
  const need = s.items.filter((i) => !s.sources.has(name(i))).map(name).join();
  if (need && need !== s.needed) { s.needed = need; again = setTimeout(() => send([{ kind: "need", key: nonce() }]), 0); }
  s.off = () => { clearTimeout(again); document.removeEventListener("keydown", keys); document.removeEventListener("visibilitychange", away); };
  return s.off;
}
