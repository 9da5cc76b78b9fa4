const el = (name, props = {}, ...children) => { const e = document.createElement(name);
  for (const [k, v] of Object.entries(props)) k in e ? e[k] = v : e.setAttribute(k, v); e.append(...children); return e; };
export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".root");
  root.replaceChildren();
  if (!data || data.image == null) return;
  let center = 0.5, width = 1, invert = false;
  const NS = "http://www.w3.org/2000/svg";
  const id = "wl" + Math.random().toString(36).slice(2);
  const svg = document.createElementNS(NS, "svg"), filter = document.createElementNS(NS, "filter"), transfer = document.createElementNS(NS, "feComponentTransfer");
  filter.setAttribute("id", id); filter.setAttribute("color-interpolation-filters", "sRGB");
  const funcs = ["R", "G", "B"].map((c) => { const f = document.createElementNS(NS, "feFunc" + c); f.setAttribute("type", "linear"); transfer.append(f); return f; });
  filter.append(transfer); svg.append(filter);
  const img = el("img", { alt: data.alt, draggable: false });
  img.src = data.src || "";
  const w = el("input", { type: "range", min: "0.05", max: "1.5", step: "0.01", value: "1", id: id + "w" });
  const c = el("input", { type: "range", min: "0", max: "1", step: "0.01", value: "0.5", id: id + "c" });
  const inv = el("button", { type: "button", textContent: "invert (i)" });
  const apply = () => {
    const slope = (invert ? -1 : 1) / width, intercept = 0.5 - center * slope;
    funcs.forEach((f) => { f.setAttribute("slope", slope); f.setAttribute("intercept", intercept); });
    img.style.filter = "url(#" + id + ")"; w.value = width; c.value = center; inv.setAttribute("aria-pressed", invert);
  };
  w.oninput = () => { width = +w.value; apply(); }; c.oninput = () => { center = +c.value; apply(); };
  inv.onclick = () => { invert = !invert; apply(); };
  const reset = el("button", { type: "button", textContent: "reset (r)", onclick: () => { center = .5; width = 1; invert = false; apply(); } });
  const stage = el("div", { className: "stage", title: "drag: left and right change the window, up and down the level" }, img, svg);
  let from = null;
  stage.onpointerdown = (e) => { from = [e.clientX, e.clientY, width, center]; stage.setPointerCapture(e.pointerId); };
  stage.onpointermove = (e) => { if (!from) return; width = Math.min(1.5, Math.max(.05, from[2] + (e.clientX - from[0]) / 500)); center = Math.min(1, Math.max(0, from[3] + (e.clientY - from[1]) / 500)); apply(); };
  stage.onpointerup = () => { from = null; };
  const facts = el("dl"); for (const [k, v] of data.facts) facts.append(el("dt", { textContent: k }), el("dd", { textContent: v }));
  const links = el("div", { className: "list" });
  if (data.neurons.length) links.append(el("div", { className: "soft", textContent: "Neurons that fire here, by share of their maximum" }));
  for (const n of data.neurons) { const a = el("a", { href: n.href }); a.setAttribute("data-go", ""); a.append(el("span", { textContent: n.text }), el("span", { textContent: n.value })); links.append(a); }
  const bar = el("div", { className: "bar" }, inv, reset);
  const follow = (text, href, key) => { const a = el("a", { href, textContent: text }); a.setAttribute("data-go", ""); if (key) a.dataset.viewerKey = key; bar.append(a); return a; };
  let close = null;
  if (data.previous) follow("← previous", data.previous, "ArrowLeft");
  if (data.next) follow("next →", data.next, "ArrowRight");
  if (data.page) follow("image page", data.page);
  if (data.close) close = follow("close (Esc)", data.close, "Escape");
  const side = el("div", { className: "side" }, el("h2", { textContent: data.title }), el("div", { className: "soft", textContent: data.what }), facts,
    el("label", { htmlFor: id + "w", textContent: "window (contrast)" }), w, el("label", { htmlFor: id + "c", textContent: "level (brightness)" }), c, bar, links);
  const view = el("div", { className: "view" }, stage, side);
  const keys = (e) => {
    e.stopPropagation(); // the same keys walk neurons on the page behind
    if (e.target.type === "range" && e.key.startsWith("Arrow")) return;
    if (e.key === "i") { invert = !invert; apply(); } else if (e.key === "r") reset.onclick();
    else if (data.close) { const a = [...bar.querySelectorAll("a")].find((x) => x.dataset.viewerKey === e.key); if (!a) return; e.preventDefault(); a.click(); }
  };
  apply();
  if (data.close) {
    const dialog = el("dialog", { "aria-label": data.title }, view); dialog.setAttribute("data-medsae-viewer", "");
    dialog.addEventListener("cancel", (e) => { e.preventDefault(); close.click(); });
    dialog.addEventListener("click", (e) => { if (e.target === dialog) close.click(); });
    dialog.addEventListener("keydown", keys);
    root.append(dialog); dialog.showModal(); (close || inv).focus();
    return () => { dialog.close(); };
  }
  view.tabIndex = 0; view.addEventListener("keydown", keys);
  root.append(el("div", { className: "inline" }, view));
}
