// The spectrogram of a recording in the page, and the times of its words where they are known: computed when it is
// asked for. Power of 25 ms windows up to 8 kHz, the loudest 60 dB.
const RATE = 16000;
const SIZE = 512; // of the Fourier transform
const WINDOW = 400;
const MAX_COLUMNS = 1600;
const PIXELS_PER_S = 110; // so that words can be read; beyond the width of the screen it scrolls
const hann = Float32Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (WINDOW - 1)));
const turns = Array.from({ length: SIZE / 2 }, (_, i) => [Math.cos((2 * Math.PI * i) / SIZE), -Math.sin((2 * Math.PI * i) / SIZE)]);

// Powers of the frequencies of SIZE real samples, in place: radix 2, decimation in time (Cooley and Tukey 1965).
function powers(re, im) {
  for (let i = 1, j = 0; i < SIZE; i++) {
    let bit = SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j]] = [re[j], re[i]];
  }
  im.fill(0);
  for (let length = 2; length <= SIZE; length *= 2) {
    for (let start = 0; start < SIZE; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const [cos, sin] = turns[(k * SIZE) / length];
        const a = start + k;
        const b = a + length / 2;
        const x = re[b] * cos - im[b] * sin;
        const y = re[b] * sin + im[b] * cos;
        re[b] = re[a] - x; im[b] = im[a] - y;
        re[a] += x; im[a] += y;
      }
    }
  }
  return Float32Array.from({ length: SIZE / 2 }, (_, i) => re[i] * re[i] + im[i] * im[i]);
}

function paint(canvas, samples) {
  const columns = Math.max(1, Math.min(MAX_COLUMNS, Math.ceil(samples.length / 160)));
  const last = Math.max(0, samples.length - WINDOW);
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  const found = Array.from({ length: columns }, (_, x) => {
    const start = Math.round((last * x) / Math.max(1, columns - 1));
    re.fill(0);
    for (let i = 0; i < WINDOW && start + i < samples.length; i++) re[i] = samples[start + i] * hann[i];
    return powers(re, im);
  });
  const loudest = found.reduce((most, column) => column.reduce((a, b) => Math.max(a, b), most), 1e-3);
  const height = SIZE / 2;
  canvas.width = columns;
  canvas.height = height;
  const drawing = canvas.getContext("2d");
  const image = drawing.createImageData(columns, height);
  found.forEach((column, x) => column.forEach((power, bin) => {
    const level = 1 + (10 * Math.log10(power / loudest + 1e-12)) / 60;
    image.data[4 * ((height - 1 - bin) * columns + x) + 3] = 255 * Math.max(0, level); // black; in the dark it is inverted
  }));
  drawing.putImageData(image, 0, 0);
}

// A canvas, the words below it at their times, and a line where the recording plays. A click plays from there.
function spectrumPanel(player, clip) {
  const panel = make("div", "spectrum");
  panel.tabIndex = 0;
  panel.setAttribute("role", "group");
  panel.setAttribute("aria-label", `Spectrogram of ${player.dataset.name}, up to 8 kHz`);
  const strip = make("div", "strip-of");
  strip.style.width = `max(100%, ${Math.round(clip.s * PIXELS_PER_S)}px)`;
  const canvas = make("canvas");
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    playFrom(player, (event.clientX - box.left) / box.width);
  });
  strip.append(canvas);
  (clip.w ?? []).forEach(([text, from, to], i) => {
    const place = (element) => {
      element.style.left = `${(100 * from) / clip.s}%`;
      element.style.width = `${(100 * (to - from)) / clip.s}%`;
      strip.append(element);
    };
    place(make("i", "span"));
    const word = make("button", `word row${i % 2}`, text);
    word.type = "button";
    word.dir = "auto";
    word.setAttribute("aria-label", `${text}, ${from.toFixed(2)} to ${to.toFixed(2)} s`);
    word.addEventListener("click", () => playFrom(player, from / clip.s));
    place(word);
  });
  if (clip.w) strip.classList.add("worded");
  strip.append(make("i", "head"));
  panel.append(strip);
  return panel;
}

function spectrumButton(player, clip) {
  const button = make("button", "look", "Spectrogram");
  button.type = "button";
  button.setAttribute("aria-label", `Spectrogram of ${player.dataset.name}`);
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", async () => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) { player.nextElementSibling.remove(); return; }
    const panel = spectrumPanel(player, clip);
    player.after(panel);
    draw(player);
    try {
      const bytes = Uint8Array.from(atob(source(clip).split(",")[1]), (char) => char.charCodeAt(0));
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes.buffer);
      paint(panel.querySelector("canvas"), decoded.getChannelData(0));
    } catch {
      panel.textContent = "This browser can't draw the recording.";
    }
  });
  return button;
}
