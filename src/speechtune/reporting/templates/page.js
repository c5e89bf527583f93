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

