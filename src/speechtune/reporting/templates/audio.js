// Audio: one element plays them all; the embedded recordings are parsed at the first one.
const sound = document.getElementById("sound");
let recordings = null;
let playing = null; // the player whose recording is in `sound`
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function source(clip) {
  if ("f" in clip) return clip.f;
  recordings ??= JSON.parse(document.getElementById("audio").textContent);
  return `data:audio/mpeg;base64,${recordings[clip.a]}`;
}

// The outline as a polygon: along the upper peaks, and back along the lower ones.
function wave(peaks) {
  const heights = [...(peaks || "0")].map((digit) => Math.max(0.4, parseInt(digit, 36) / 35 * 15));
  const upper = heights.map((height, i) => `${i} ${(16 - height).toFixed(1)} ${i + 0.7} ${(16 - height).toFixed(1)}`);
  const lower = heights.map((height, i) => `${i + 0.7} ${(16 + height).toFixed(1)} ${i} ${(16 + height).toFixed(1)}`).reverse();
  return { width: heights.length, path: `M${upper.join(" ")} ${lower.join(" ")}Z` };
}

function draw(player) {
  const clip = data.clips[player.dataset.clip];
  const isLoaded = playing === player;
  const length = isLoaded && Number.isFinite(sound.duration) ? sound.duration : clip.s;
  const at = isLoaded ? sound.currentTime : 0;
  const button = player.firstChild;
  const runs = isLoaded && !sound.paused;
  button.textContent = runs ? "❚❚" : "►";
  button.setAttribute("aria-label", `${runs ? "Pause" : "Play"} ${player.dataset.name}`);
  const share = length ? Math.min(1, at / length) : 0;
  player.style.setProperty("--played", `${100 - 100 * share}%`);
  player.querySelector(".time").textContent = (isLoaded ? `${clock(at)} / ` : "") + (length ? clock(Math.round(length)) : "");
  const strip = player.nextElementSibling?.querySelector(".strip-of");
  if (strip) strip.style.setProperty("--at", isLoaded ? `${100 * share}%` : "-2px");
}

function seek(player, seconds) {
  if (playing === player && Number.isFinite(sound.duration)) {
    sound.currentTime = Math.max(0, Math.min(sound.duration, seconds));
    draw(player);
  }
}

function load(player) {
  if (playing === player) return;
  const before = playing;
  playing = player;
  sound.src = source(data.clips[player.dataset.clip]);
  if (before) draw(before);
}

function playFrom(player, share) {
  if (playing === player && Number.isFinite(sound.duration)) seek(player, share * sound.duration);
  else sound.addEventListener("loadedmetadata", () => seek(player, share * sound.duration), { once: true });
  if (playing !== player || sound.paused) toggle(player);
}

function toggle(player) {
  load(player);
  if (sound.paused) sound.play().catch(() => {}); // "error" says what is wrong
  else sound.pause();
}

function buildPlayer(player) {
  const clip = data.clips[player.dataset.clip];
  const button = make("button", "play");
  button.type = "button";
  button.addEventListener("click", () => toggle(player));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && playing === player) { seek(player, sound.currentTime + step); event.preventDefault(); }
  });
  const { width, path } = wave(clip.p);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} 32`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  ["wave", "played"].forEach((className) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "path");
    part.setAttribute("class", className);
    part.setAttribute("d", path);
    svg.append(part);
  });
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (playing === player) seek(player, share * sound.duration);
    else playFrom(player, share);
  });
  player.replaceChildren(button, svg, make("span", "time"));
  if ("a" in clip) player.append(spectrumButton(player, clip));
  draw(player);
  return player;
}

const tell = (text) => { document.getElementById("status").textContent = text; };
{
  all(".player").forEach(buildPlayer);
  let frame = 0;
  const follow = () => {
    if (playing) draw(playing);
    frame = sound.paused ? 0 : requestAnimationFrame(follow);
  };
  ["play", "pause", "ended", "loadedmetadata", "seeked"].forEach((name) => sound.addEventListener(name, () => { cancelAnimationFrame(frame); follow(); }));
  sound.addEventListener("error", () => {
    const text = "This recording can't be played: its file is not there, or the browser may not read it.";
    if (playing) playing.querySelector(".time").textContent = text;
    tell(text);
  });
}

// Keys: / searches; j and k go to the next and previous recording on screen.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const seen = (element) => element.offsetParent !== null;
  if (event.key === "/") {
    const input = all("input[type=search]").find(seen);
    if (input) { input.focus(); input.scrollIntoView({ block: "center" }); event.preventDefault(); }
  } else if (event.key === "j" || event.key === "k") {
    const buttons = all(".player .play").filter(seen);
    const here = buttons.indexOf(document.activeElement);
    const next = buttons[here < 0 ? 0 : here + (event.key === "j" ? 1 : -1)];
    if (next) { next.focus(); next.scrollIntoView({ block: "center" }); }
  }
});
