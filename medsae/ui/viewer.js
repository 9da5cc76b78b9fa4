const el = (name, props = {}, ...children) => { const e = document.createElement(name);
  for (const [k, v] of Object.entries(props)) k in e ? e[k] = v : e.setAttribute(k, v); e.append(...children); return e; };
// Kept while the reader goes from picture to picture: window and level, which control has the focus, and where the
// reader is going: a second quick press is one step further than the first, though its picture is not there yet.
const kept = { center: 0.5, width: 1, invert: false, focus: null, going: null, marking: 0, mapped: null, opacity: 0.7 };
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".root");
  clearInterval(kept.marking); // the last call of this function left it
  root.replaceChildren();
  if (!data || data.image == null) { kept.focus = kept.going = null; return; }
  const steps = data.steps || [], row = steps.join();
  if (kept.going && (kept.going.row !== row || kept.going.at === data.at)) kept.going = null;
  const NS = "http://www.w3.org/2000/svg";
  const id = "wl" + Math.random().toString(36).slice(2);
  const svg = document.createElementNS(NS, "svg"), filter = document.createElementNS(NS, "filter"), transfer = document.createElementNS(NS, "feComponentTransfer");
  filter.setAttribute("id", id); filter.setAttribute("color-interpolation-filters", "sRGB");
  const funcs = ["R", "G", "B"].map((c) => { const f = document.createElementNS(NS, "feFunc" + c); f.setAttribute("type", "linear"); transfer.append(f); return f; });
  filter.append(transfer); svg.append(filter);
  const shown = [data, ...(data.beside ? [data.beside] : [])];
  const images = shown.map((d) => { const img = el("img", { alt: d.alt, draggable: false }); img.src = d.src || ""; return img; });
  const w = el("input", { type: "range", min: "0.05", max: "1.5", step: "0.01", value: "1", id: id + "w" });
  const c = el("input", { type: "range", min: "0", max: "1", step: "0.01", value: "0.5", id: id + "c" });
  // A map lies over the first picture: it moves with it, and knows no window.
  const over = data.over ? el("img", { alt: data.over_said || "", draggable: false, className: "map" }) : null;
  if (over) over.src = data.over;
  if (over && kept.mapped == null) kept.mapped = !!data.mapped;
  if (over && data.asked && data.asked !== kept.asked) kept.mapped = true; // the reader chose this map just now
  kept.asked = data.asked;
  const o = el("input", { type: "range", min: "0", max: "1", step: "0.05", value: "0.7", id: id + "o" });
  o.oninput = () => { kept.opacity = +o.value; apply(); };
  // It stands there while the map does: a control of what is not seen has no effect.
  const opacity = el("div", {}, el("label", { htmlFor: id + "o", textContent: "opacity of the map" }), o, el("div", { className: "soft", textContent: data.over_said || "" }));
  let zoom = 1, x = 0, y = 0; // the same of both pictures: what is compared lies at the same place
  const button = (role, text, onclick) => { const b = el("button", { type: "button", textContent: text, onclick }); b.dataset.role = role; return b; };
  const inv = button("invert", "invert (i)", () => { kept.invert = !kept.invert; apply(); });
  const mapped = button("map", "map (m)", () => { kept.mapped = !kept.mapped; apply(); });
  const apply = () => {
    const slope = (kept.invert ? -1 : 1) / kept.width, intercept = 0.5 - kept.center * slope;
    funcs.forEach((f) => { f.setAttribute("slope", slope); f.setAttribute("intercept", intercept); });
    if (zoom <= 1) x = y = 0;
    const limit = (zoom - 1) / 2;
    x = clamp(x, -limit, limit); y = clamp(y, -limit, limit);
    for (const img of images) { img.style.filter = "url(#" + id + ")"; img.style.transform = `translate(${100 * x}%, ${100 * y}%) scale(${zoom})`; }
    if (over) { over.style.transform = images[0].style.transform; over.style.opacity = kept.mapped ? kept.opacity : 0; o.value = kept.opacity; if (!kept.mapped && opacity.contains(root.getRootNode().activeElement)) mapped.focus(); opacity.hidden = !kept.mapped; mapped.setAttribute("aria-pressed", kept.mapped); }
    view.dataset.zoom = zoom.toFixed(2); w.value = kept.width; c.value = kept.center; inv.setAttribute("aria-pressed", kept.invert);
  };
  const zoomTo = (to, atX = 0, atY = 0) => { // the point under the mouse stays where it is
    to = clamp(to, 1, 12);
    x = atX - (atX - x) * to / zoom; y = atY - (atY - y) * to / zoom; zoom = to; apply();
  };
  w.oninput = () => { kept.width = +w.value; apply(); }; c.oninput = () => { kept.center = +c.value; apply(); };
  const reset = button("reset", "reset (r)", () => { Object.assign(kept, { center: 0.5, width: 1, invert: false }); zoom = 1; apply(); });
  const stages = images.map((img, i) => {
    const stage = el("div", { className: "stage", title: "wheel or double-click: zoom · drag: window and level, or move when zoomed (with shift: window and level)" }, img);
    if (over && i === 0) stage.append(over);
    if (shown.length > 1) stage.append(el("div", { className: "over", textContent: shown[i].title + (shown[i].said ? " · " + shown[i].said : "") }));
    const place = (e) => { const r = stage.getBoundingClientRect(); return [(e.clientX - r.x) / r.width - 0.5, (e.clientY - r.y) / r.height - 0.5]; };
    let from = null;
    stage.onpointerdown = (e) => { from = { x: e.clientX, y: e.clientY, width: kept.width, center: kept.center, at: [x, y], pan: zoom > 1 && !e.shiftKey && e.button === 0 }; stage.setPointerCapture(e.pointerId); };
    stage.onpointermove = (e) => {
      if (!from) return;
      const dx = e.clientX - from.x, dy = e.clientY - from.y;
      if (from.pan) { x = from.at[0] + dx / stage.clientWidth; y = from.at[1] + dy / stage.clientHeight; }
      else { kept.width = clamp(from.width + dx / 500, 0.05, 1.5); kept.center = clamp(from.center + dy / 500, 0, 1); }
      apply();
    };
    stage.onpointerup = stage.onpointercancel = () => { from = null; };
    stage.oncontextmenu = (e) => e.preventDefault();
    stage.ondblclick = (e) => zoomTo(zoom > 1 ? 1 : 3, ...place(e));
    stage.addEventListener("wheel", (e) => { e.preventDefault(); zoomTo(zoom * Math.exp(-e.deltaY / 400), ...place(e)); }, { passive: false });
    return stage;
  });
  const facts = el("dl"); for (const [k, v] of data.facts) facts.append(el("dt", { textContent: k }), el("dd", { textContent: v }));
  const links = el("div", { className: "list" });
  if (data.neurons.length) links.append(el("div", { className: "soft", textContent: "Neurons that fire here, by share of their maximum" }));
  for (const n of data.neurons) { const a = el("a", { href: n.href }); a.setAttribute("data-go", ""); a.append(el("span", { textContent: n.text }), el("span", { textContent: n.value })); links.append(a); }
  const bar = el("div", { className: "bar" }, inv, button("in", "zoom in (+)", () => zoomTo(zoom * 1.4)), button("out", "zoom out (−)", () => zoomTo(zoom / 1.4)), reset, ...(over ? [mapped] : [])), ways = el("div", { className: "bar" });
  const follow = (text, href, key) => { const a = el("a", { href, textContent: text }); a.setAttribute("data-go", ""); a.dataset.role = text; if (key) a.dataset.viewerKey = key; ways.append(a); return a; };
  let close = null;
  const leave = (href) => { const a = el("a", { href }); a.setAttribute("data-go", ""); ways.append(a); a.click(); a.remove(); };
  const goTo = (at) => { if (steps[at] == null || at === (kept.going ? kept.going.at : data.at)) return; kept.going = { row, at }; leave(steps[at]); };
  const turn = (by) => goTo((kept.going ? kept.going.at : data.at) + by);
  const walk = (text, by, key) => { const b = button(text, text, () => turn(by)); b.dataset.viewerKey = key; b.disabled = steps[data.at + by] == null; ways.append(b); };
  if (data.at != null) { walk("← previous", -1, "ArrowLeft"); walk("next →", 1, "ArrowRight"); }
  for (const [text, href, key] of data.side || []) follow(text, href, key);
  if (data.page) follow("image page", data.page);
  if (data.close) close = follow("close (Esc)", data.close, "Escape");
  // What the page's own buttons do, from inside: they lie under the dialog.
  const WORDS = ["star", "agree", "disagree"];
  const page = () => { const all = [...document.querySelectorAll(".st-key-_judgement button")];
    return WORDS.map((word) => all.find((b) => b.textContent.trim().replace(/^[★☆] /, "").startsWith(word))); };
  const judge = el("div", { className: "bar" });
  if (data.close && page().every(Boolean)) WORDS.map((word) => `${word} (${word[0]})`).forEach((text, i) => {
    const b = button(text, text, () => page()[i]?.click());
    judge.append(b);
  });
  // A name of the reader's own; saved by Enter or by leaving the field.
  const called = data.close && data.called != null ? el("input", { type: "text", id: id + "n", value: data.called, maxLength: 120, placeholder: "what you would call it (n)", autocomplete: "off" }) : null;
  const name = () => { const text = called.value.trim(); if (text !== data.called) { data.called = text; setTriggerValue("named", text); } };
  if (called) { called.dataset.role = "called"; called.onchange = name; }
  const mark = () => [...judge.children].forEach((b, i) => { const p = page()[i]; if (p) { b.disabled = p.disabled; b.setAttribute("aria-pressed", p.getAttribute("kind") === "primary"); } });
  mark();
  kept.marking = setInterval(mark, 300); // the page's buttons are drawn again when the server has kept what was said
  const side = el("div", { className: "side" }, el("h2", { textContent: data.title }), ...(data.name ? [el("div", { textContent: data.name })] : []), el("div", { className: "soft", textContent: data.what }), facts,
    el("label", { htmlFor: id + "w", textContent: "window (contrast)" }), w, el("label", { htmlFor: id + "c", textContent: "level (brightness)" }), c, ...(over ? [opacity] : []), bar, ways, judge, ...(called ? [el("label", { htmlFor: id + "n", textContent: "your name for this neuron" }), called] : []), links);
  const view = el("div", { className: "view" }, el("div", { className: "stages" }, ...stages, svg), side);
  const keys = (e) => {
    e.stopPropagation(); // the same keys walk neurons on the page behind
    if (e.metaKey || e.ctrlKey || e.altKey) return;
    if (e.target.type === "range" && e.key.startsWith("Arrow")) return;
    if (e.target.type === "text") { if (e.key === "Enter") { e.preventDefault(); name(); (close || view).focus(); } return; }
    const judged = ["s", "a", "d"].indexOf(e.key);
    if (e.key === "i") inv.click(); else if (e.key === "m" && over) mapped.click(); else if (e.key === "r" || e.key === "0") reset.click();
    else if (e.key === "+" || e.key === "=") zoomTo(zoom * 1.4); else if (e.key === "-") zoomTo(zoom / 1.4);
    else if (judged >= 0 && judge.children[judged]) judge.children[judged].click();
    else if (/^[1-9]$/.test(e.key)) goTo(e.key - 1);
    else if (e.key === "n" && called) { e.preventDefault(); called.focus(); called.select(); }
    else if (zoom > 1 && e.key.startsWith("Arrow") && e.shiftKey) { x += { ArrowLeft: 0.1, ArrowRight: -0.1 }[e.key] || 0; y += { ArrowUp: 0.1, ArrowDown: -0.1 }[e.key] || 0; apply(); }
    else if (data.at != null && /^Arrow(Left|Right)$/.test(e.key)) { e.preventDefault(); kept.focus = e.key === "ArrowLeft" ? "← previous" : "next →"; turn(e.key === "ArrowLeft" ? -1 : 1); }
    else if (data.close) { const a = [...ways.querySelectorAll("a")].find((x) => x.dataset.viewerKey === e.key); if (!a) return; kept.focus = a.dataset.role; e.preventDefault(); a.click(); }
  };
  apply();
  side.addEventListener("focusin", (e) => { kept.focus = e.target.dataset.role || kept.focus; });
  if (data.close) {
    const dialog = el("dialog", { "aria-label": data.title }, view); dialog.setAttribute("data-medsae-viewer", "");
    dialog.addEventListener("cancel", (e) => { e.preventDefault(); close.click(); });
    dialog.addEventListener("click", (e) => { if (e.target === dialog) close.click(); });
    dialog.addEventListener("keydown", keys);
    root.append(dialog); dialog.showModal();
    ([...side.querySelectorAll("[data-role]")].find((e) => e.dataset.role === kept.focus && !e.disabled) || close || inv).focus({ preventScroll: true });
    // What is focused may lie below: the title and the labels of the image are read first, or what was looked at before.
    side.scrollTop = kept.scroll || 0;
    side.addEventListener("scroll", () => { kept.scroll = side.scrollTop; });
    return () => { clearInterval(kept.marking); dialog.close(); };
  }
  view.tabIndex = 0; view.addEventListener("keydown", keys);
  root.append(el("div", { className: "inline" }, view));
  return () => clearInterval(kept.marking);
}
