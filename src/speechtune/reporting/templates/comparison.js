const tools = document.querySelector(".tools");
const cards = [...document.querySelectorAll(".pairs-list li")].map((card) => ({ card, text: folded(card.textContent) }));
tools.hidden = !cards.length;
tools.querySelector("input").addEventListener("input", (event) => {
  const wanted = folded(event.target.value.trim()).split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { card, text } of cards) {
    card.hidden = !wanted.every((word) => text.includes(word));
    found += !card.hidden;
  }
  if (wanted.length) document.querySelectorAll(".changed").forEach((part) => { part.open = true; });
  tools.querySelector("output").textContent = wanted.length ? `${found} of ${cards.length}` : "";
});
