let ours = false;
// A viewer over a page is one step of the history: opening it is a step, going on inside it is none, closing it goes
// back. What lies over a page stands in these parameters.
const OVER = ["view", "beside"];
const below = (url) => { const p = new URLSearchParams(url.search); OVER.forEach((n) => p.delete(n)); p.sort(); return url.pathname + "?" + p; };
const go = (href) => {
  const to = new URL(href, location.href), at = new URL(location.href);
  const same = below(to) === below(at), over = to.searchParams.has("view"), was = at.searchParams.has("view");
  if (same && was && !over && history.state && history.state.medsaeOver) { history.back(); return; }
  if (same && was) history.replaceState(history.state, "", href);
  else history.pushState(over ? { medsaeOver: true } : {}, "", href);
  ours = true;
  dispatchEvent(new PopStateEvent("popstate"));
  ours = false;
};
const copy = (text) => {
  // The clipboard of a page that does not come over https from elsewhere: through a field that is selected.
  const field = document.createElement("textarea");
  field.value = text; field.style.position = "fixed"; field.style.opacity = 0; document.body.append(field); field.select();
  try { return document.execCommand("copy"); } finally { field.remove(); }
};
const say = (anchor, text) => { const was = anchor.dataset.text ||= anchor.textContent; anchor.textContent = text; setTimeout(() => { anchor.textContent = was; }, 1500); };
// Keys that walk: the link that was followed last, and the presses that came before the page brought its next links.
const walk = { key: "", href: "", queue: [], timer: 0 };
const linkOf = (key) => document.querySelector('a[data-key="' + CSS.escape(key) + '"]');
const underWay = () => walk.href && linkOf(walk.key)?.getAttribute("href") === walk.href;
const follow = (key) => { const a = linkOf(key); if (!a) return; Object.assign(walk, { key, href: a.getAttribute("href") }); a.click(); };
const press = (key) => {
  if (!underWay()) { follow(key); return; }
  walk.queue.push(key);
  const since = Date.now();
  walk.timer ||= setInterval(() => {
    if (underWay() && Date.now() - since < 5000) return;
    if (walk.queue.length) follow(walk.queue.shift());
    if (!walk.queue.length) { clearInterval(walk.timer); walk.timer = 0; }
  }, 30);
};
addEventListener("popstate", () => { if (!ours) Object.assign(walk, { href: "", queue: [] }); });
const onClick = (event) => {
  const anchor = event.composedPath().find((e) => e.tagName === "A" && e.hasAttribute && e.hasAttribute("data-go"));
  if (!anchor || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (anchor.dataset.go === "copy") {
    const done = navigator.clipboard ? navigator.clipboard.writeText(location.href) : Promise.reject();
    done.catch(() => { if (!copy(location.href)) throw new Error("refused"); }).then(() => say(anchor, "copied"), () => say(anchor, "not copied: take it from the address bar"));
  } else go(anchor.getAttribute("href"));
};
const onKey = (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const at = event.composedPath()[0];
  if (at.type !== "checkbox" && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName) || at.closest?.("[role=slider],[role=radiogroup],[role=tablist],[role=listbox],canvas"))) return;
  if (linkOf(event.key)) { event.preventDefault(); press(event.key); }
};
// Text is larger on large screens (style.css has the same widths); charts have heights in pixels and must grow with it.
const size = { scale: 1, tell: null, large: [[matchMedia("(min-width: 3400px)"), 1.6], [matchMedia("(min-width: 2200px)"), 1.2]] };
const measure = () => {
  const scale = (size.large.find(([query]) => query.matches) || [0, 1])[1];
  if (scale !== size.scale && size.tell) { size.scale = scale; size.tell(scale); }
};
for (const [query] of size.large) query.addEventListener("change", measure);
// Menus that open lie beside the app in the document, not in it: the whole document has the app's theme, which alone
// tells light-dark() of style.css which of two colours is meant.
const theme = () => { const app = document.querySelector(".stApp"); if (app) document.documentElement.style.colorScheme = getComputedStyle(app).colorScheme; };
new MutationObserver(theme).observe(document.querySelector(".stApp") || document.body, { attributes: true, attributeFilter: ["class"] });
// Streamlit's field for files calls itself a presentation though it has a name and can have the focus.
const mend = () => document.querySelectorAll('[data-testid="stFileUploaderDropzone"][role="presentation"]').forEach((e) => e.setAttribute("role", "group"));
new MutationObserver(mend).observe(document.body, { subtree: true, childList: true });
// What a cell of a heat map says stands beside the mouse at once: the browser's own title comes after a second.
const tip = document.createElement("div");
tip.className = "ms-tip"; tip.hidden = true; tip.setAttribute("aria-hidden", "true"); document.body.append(tip);
document.addEventListener("pointerover", (event) => {
  const cell = event.target.closest?.(".ms-heat > [aria-label]");
  tip.hidden = !cell;
  if (!cell) return;
  tip.textContent = cell.getAttribute("aria-label");
  const r = cell.getBoundingClientRect(), right = r.right + 6 + tip.offsetWidth < innerWidth;
  tip.style.left = (right ? r.right + 6 : Math.max(4, r.left - 6 - tip.offsetWidth)) + "px";
  tip.style.top = Math.min(r.bottom + 4, innerHeight - tip.offsetHeight - 4) + "px";
});
// Streamlit calls the function below again whenever its data change: what listens is set up once, here.
document.addEventListener("click", onClick);
document.addEventListener("keydown", onKey);
export default function (component) {
  if (component.data && component.data.go && window.__medsaeGone !== component.data.nonce) {
    window.__medsaeGone = component.data.nonce;
    go(component.data.go);
  }
  size.tell = (scale) => component.setStateValue("scale", scale);
  measure();
  theme();
  mend();
  document.documentElement.dataset.medsaeLinks = "ready";
}
