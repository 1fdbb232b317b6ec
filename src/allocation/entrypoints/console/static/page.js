// Small comforts: the switch between light and dark, "/" for the search, filters that show while one types, pause.
"use strict";

const TYPING_PAUSE_MS = 150;
const YEAR_S = 31536000;
const root = document.documentElement;
root.classList.add("scripted");

const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=/console; max-age=${YEAR_S}; samesite=lax`;
});

const find = document.getElementById("q") || document.getElementById("find");
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    find.focus();
    find.select();
  }
});

const filters = document.getElementById("filters");
if (filters) {
  let timer = 0;
  let asked = 0;
  const apply = async () => {
    const given = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    const url = `${filters.action}${given.size ? `?${given}` : ""}`;
    const number = ++asked;
    const response = await fetch(url, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (number !== asked) return;
    if (!response.ok) {
      location.href = url;
      return;
    }
    history.replaceState(null, "", url);
    window.live.replace(page);
  };
  filters.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  filters.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, TYPING_PAUSE_MS);
  });
}

const pause = document.getElementById("pause");
if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const still = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(still));
    pause.textContent = still ? "Go on" : "Pause";
    window.live.pause(still);
  });
}

const drop = document.getElementById("drop");
if (drop) {
  const file = document.getElementById("file");
  document.getElementById("dropping").hidden = false;
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  drop.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) file.files = event.dataTransfer.files;
  });
}
