// Keeps a page as the server would show it now: fragments come as server-sent events and are put in place, node by
// node, so that focus, selection and scroll stay where they are. Without this file the page can be read as it is.
"use strict";

const RETRY_AFTER_MS = 15000;
const main = document.getElementById("main");
const state = document.getElementById("state");
let source = null;
let paused = false;
let seen = "";

function show(words, kind) {
  state.hidden = !words;
  state.className = `state ${kind}`;
  if (state.textContent !== words) state.textContent = words;
}

// Makes `place` have the children of `wanted`. Rows with an id are known by it, everything else by where it stands.
function morph(place, wanted) {
  const kept = new Map([...place.children].filter((each) => each.id).map((each) => [each.id, each]));
  let current = place.firstChild;
  for (const node of [...wanted.childNodes]) {
    let match = node.id ? kept.get(node.id) : current;
    if (match && !alike(match, node)) match = null;
    if (!match) {
      const added = document.importNode(node, true);
      if (node.id && kept.size) added.classList.add("fresh");
      place.insertBefore(added, current);
      continue;
    }
    if (match !== current) place.insertBefore(match, current);
    else current = current.nextSibling;
    update(match, node);
  }
  while (current) {
    const next = current.nextSibling;
    current.remove();
    current = next;
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function update(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  morph(node, wanted);
}

function put(name, html) {
  const place = main.querySelector(`[data-live="${name}"]`);
  const parsed = new DOMParser().parseFromString(`<div>${html}</div>`, "text/html");
  if (place) morph(place, parsed.body.firstChild);
}

function open() {
  close();
  const url = main.dataset.stream;
  if (!url || paused || document.hidden) return;
  const stream = new EventSource(seen ? url.replace(/_seen=[^&]*/, `_seen=${encodeURIComponent(seen)}`) : url);
  source = stream;
  for (const place of main.querySelectorAll("[data-live]")) {
    stream.addEventListener(place.dataset.live, (event) => {
      seen = event.lastEventId || seen;
      put(place.dataset.live, event.data);
    });
  }
  stream.onopen = () => show("live", "on");
  stream.onerror = () => {
    show("not live", "off");
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => source === stream && open(), RETRY_AFTER_MS);
  };
}

function close() {
  if (source) source.close();
  source = null;
}

// A page that nobody looks at is no load, and browsers allow few connections to one host.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && open());

// For `page.js`: another state of the page was loaded; or the page shall stand still.
window.live = {
  replace(loaded) {
    const fresh = loaded.getElementById("main");
    main.dataset.stream = fresh.dataset.stream || "";
    seen = "";
    for (const place of fresh.querySelectorAll("[data-live]")) put(place.dataset.live, place.innerHTML);
    open();
  },
  pause(still) {
    paused = still;
    if (still) close();
    else open();
    show(still ? "paused" : "", "off");
  },
};
open();
