export default function (component) {
  const data = component.data || {}, url = new URL(location.href);
  // The page may have been left since the server wrote this.
  const now = new URLSearchParams(url.search), then = new URLSearchParams(data.given || "");
  now.sort(); then.sort();
  if (now.toString() !== then.toString()) return;
  for (const [name, value] of Object.entries(data.missing || {})) url.searchParams.set(name, value);
  if (url.href !== location.href) history.replaceState(history.state, "", url);
}
