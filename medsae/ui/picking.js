// One set of listeners for ever; a run of the page brings what is chosen now. They do nothing where there are no boxes.
const now = { chosen: new Set(), last: null, tell: () => {} };
const boxes = () => [...document.querySelectorAll("input.ms-pick")], number = (box) => +box.dataset.neuron;
const draw = () => boxes().forEach((box) => { box.checked = now.chosen.has(number(box)); box.closest(".ms-cell").classList.toggle("ms-chosen", box.checked); });
// With shift everything between the last one that was chosen and this one.
const choose = (box, between) => {
  const all = boxes(), at = all.indexOf(box), last = all.findIndex((b) => number(b) === now.last), range = between && last >= 0;
  const on = range || !now.chosen.has(number(box));
  const part = range ? all.slice(Math.min(at, last), Math.max(at, last) + 1) : [box];
  part.forEach((b) => { if (on) now.chosen.add(number(b)); else now.chosen.delete(number(b)); });
  now.last = number(box);
  now.tell([...now.chosen]);
  setTimeout(draw); // after the browser has done its own to the box
};
document.addEventListener("click", (event) => {
  const box = event.target.closest?.(".ms-cell")?.querySelector("input.ms-pick");
  if (!box || event.metaKey || event.ctrlKey || event.button) return;
  if (event.target === box) choose(box, event.shiftKey);
  else if (event.shiftKey) { event.preventDefault(); event.stopPropagation(); choose(box, true); }
}, true);
// A run that changes a card draws all of them anew, without what was chosen.
new MutationObserver(draw).observe(document.body, { childList: true, subtree: true });
// Shift and a click select text in a browser; here they choose.
document.addEventListener("mousedown", (event) => { if (event.shiftKey && event.target.closest?.(".ms-cell")) event.preventDefault(); }, true);
export default function (component) {
  now.chosen = new Set(component.data.chosen || []);
  now.tell = (chosen) => component.setStateValue("chosen", chosen);
  draw();
}
