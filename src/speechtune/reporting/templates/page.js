"use strict";
// Lower case for searching; Turkish capital I with a dot becomes a plain i.
const folded = (text) => text.normalize("NFKC").toLowerCase().replace(/i\u0307/g, "i");

// Light or dark: the system's choice until the button is used.
const themeButton = document.getElementById("theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Elements, and what the page holds for its scripts.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const data = JSON.parse(document.getElementById("data").textContent);
