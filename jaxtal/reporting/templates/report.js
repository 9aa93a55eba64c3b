"use strict";
// Draw one video at a time: annotated instances, every model's detections, attention and T-CAM.
// Names of videos, classes and runs become text or attributes, never markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const videos = data.groups.flatMap((group) => group.videos.map((video) => ({ ...video, group })));
  const { dataset } = document.documentElement; // milliseconds, for tests and benchmarks
  addEventListener("load", () => (dataset.loaded = performance.now().toFixed(1)));
  if (!videos.length) return;

  const LEFT = 200, RIGHT = 16, AXIS = 22, TRUTH = 20, LANE = 62, CURVES = 66, GAP = 8; // pixels
  const COLORS = 7; // --c0 to --c6; --c7, gray, is for all further classes
  const state = { filter: "", shown: videos, video: videos[0], share: data.shares.indexOf(20) };

  function add(parent, name, attributes = {}, text = "") {
    const made = document.createElementNS(parent.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== "") made.textContent = text;
    return parent.appendChild(made);
  }

  const seconds = (value) => `${value.toFixed(value < 100 ? 2 : 1)} s`;
  const short = (text) => ([...text].length > 27 ? `${[...text].slice(0, 26).join("")}…` : text);
  const least = (model) => model.least[state.share];
  
  // Return indices of the detections of a video that the slider keeps, by descending score.
  function kept(found, model) {
    return found.score.flatMap((score, index) => (score >= least(model) ? [index] : []));
  }

  function describe(video, found, index) {
    const label = video.group.classes[found.label[index]];
    const span = `${seconds(found.start[index])} to ${seconds(found.end[index])}`;
    const kind = data.kinds[found.kind[index]];
    return { label, span, kind, score: found.score[index] };
  }

  // Map each class to a color slot in this video: its own if that is free, else the next free one.
  function colors(video) {
    const labels = [
      video.truth.map(([label]) => label),
      ...video.curves.map((curves) => (curves ? curves.classes.map(([label]) => label) : [])),
      ...video.found.map((found) => found.label),
    ].flat();
    const slots = new Map();
    for (const label of new Set(labels)) {
      const tried = [...Array(COLORS).keys()].map((step) => (label + step) % COLORS);
      const taken = new Set(slots.values());
      slots.set(label, tried.find((slot) => !taken.has(slot)) ?? COLORS);
    }
    return slots;
  }

  function ticks(duration) {
    const rough = duration / 10;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    return Array.from({ length: Math.floor(duration / step) + 1 }, (_, index) => index * step);
  }

  function draw() {
    const { video } = state;
    const { classes, models } = video.group;
    const width = Math.max(byId("timeline").clientWidth, 700);
    const inside = (time) => Math.min(Math.max(time, 0), video.duration);
    const x = (time) => LEFT + (inside(time) / video.duration) * (width - LEFT - RIGHT);
    const slots = colors(video);
    const used = new Set();
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const grid = add(svg, "g");
    let y = AXIS + GAP;

    function bar(label, start, end, bottom, height, more) {
      used.add(label);
      const size = { x: x(start), width: Math.max(x(end) - x(start), 1.5) };
      const style = `--color: var(--c${slots.get(label)})`;
      add(svg, "rect", { ...size, y: bottom - height, height, style, ...more });
    }

    function lane(height, name, ...lines) {
      add(grid, "rect", { class: "band", x: LEFT, y, width: width - LEFT - RIGHT, height });
      const title = add(svg, "text", { x: 0, y: y + 14, "data-tip": name }, short(name));
      if (lines.length) title.setAttribute("font-weight", 600);
      lines.forEach((line, index) =>
        add(svg, "text", { class: "faint", x: 0, y: y + 30 + 15 * index }, line),
      );
      y += height + GAP;
      return y - GAP; // the bottom
    }

    const annotated = new Set(video.truth.map(([label]) => label));
    for (const label of annotated) {
      const bottom = lane(TRUTH, classes[label]);
      for (const [own, start, end] of video.truth) {
        if (own !== label) continue;
        const tip = `${classes[label]}, annotated\n${seconds(start)} to ${seconds(end)}`;
        bar(label, start, end, bottom - 2, TRUTH - 4, { class: "truth", "data-tip": tip });
      }
    }
    if (!annotated.size) lane(TRUTH, "no annotations");

    models.forEach((model, number) => {
      const found = video.found[number];
      const shown = kept(found, model);
      const right = shown.filter((index) => found.kind[index] === 0).length;
      const lines = [`${shown.length} of ${found.all}, ${right} right`];
      if (model.count) lines.push(`scores from ${least(model)}`);
      const bottom = lane(LANE, model.name, ...lines);
      const [low, high] = model.range;
      for (const index of shown) {
        const { label, span, kind, score } = describe(video, found, index);
        const height = 8 + (LANE - 12) * (high > low ? (score - low) / (high - low) : 1);
        bar(found.label[index], found.start[index], found.end[index], bottom - 1, height, {
          class: `found ${kind === data.kinds[0] ? "right" : "wrong"}`,
          "data-model": number,
          "data-tip": `${label}\n${span}\nscore ${score}\n${kind}`,
        });
      }
    });

    video.curves.forEach((curves, number) => {
      if (!curves) return;
      const bottom = lane(CURVES, models[number].name, "attention and T-CAM");
      const [first, last] = curves.span.map(x);
      const line = (values) => {
        const points = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
        const step = (last - first) / Math.max(points.length - 1, 1);
        const at = (value, index) =>
          `${(first + index * step).toFixed(1)},${(bottom - (CURVES * value) / 255).toFixed(1)}`;
        return Array.from(points, at).join(" ");
      };
      if (curves.attention) {
        const points = `${first},${bottom} ${line(curves.attention)} ${last},${bottom}`;
        add(svg, "polygon", { class: "attention", points });
      }
      for (const [label, values] of curves.classes) {
        used.add(label);
        const style = `--color: var(--c${slots.get(label)})`;
        add(svg, "polyline", { class: "curve", points: line(values), style });
      }
    });

    for (const time of ticks(video.duration)) {
      const text = { x: x(time), y: 14, "text-anchor": "middle", class: "faint" };
      add(grid, "line", { class: "grid", x1: x(time), x2: x(time), y1: AXIS - 2, y2: y });
      add(grid, "text", text, `${+time.toFixed(3)}${time ? "" : " s"}`);
    }
    for (const [start, end] of video.ambiguous) {
      const size = { x: x(start), y: AXIS, width: Math.max(x(end) - x(start), 1.5), height: y - AXIS };
      const tip = `ambiguous\n${seconds(start)} to ${seconds(end)}`;
      add(grid, "rect", { class: "ambiguous", fill: "url(#hatch)", ...size, "data-tip": tip });
    }
    if (video.ambiguous.length) hatch(svg);
    add(svg, "line", { class: "cursor", y1: AXIS, y2: y, visibility: "hidden" });
    const attributes = {
      viewBox: `0 0 ${width} ${y}`,
      role: "img",
      "aria-label": `Timeline of ${video.name}; the table below lists its detections`,
      "data-duration": video.duration,
    };
    for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
    byId("timeline").replaceChildren(svg);
    legend(classes, slots, used);
    byId("hatched").hidden = !video.ambiguous.length;
    if (byId("listed").open) list();
  }

  function hatch(svg) {
    const size = { width: 7, height: 7, patternUnits: "userSpaceOnUse" };
    const pattern = add(add(svg, "defs"), "pattern", { id: "hatch", ...size });
    add(pattern, "path", { class: "hatch", d: "M-1 8 8 -1 M-1 1 1 -1 M6 8 8 6" });
  }

  function legend(classes, slots, used) {
    const entry = (slot, text) => {
      const item = add(byId("colors"), "span");
      add(item, "span", { class: "mark", style: `background: var(--c${slot})` });
      item.append(` ${text}`);
    };
    byId("colors").replaceChildren();
    for (const [label, slot] of slots) {
      if (used.has(label) && slot < COLORS) entry(slot, classes[label]);
    }
    if ([...used].some((label) => slots.get(label) === COLORS)) entry(COLORS, "other classes");
  }

  function list() {
    const { video } = state;
    const body = byId("listed").querySelector("tbody");
    body.replaceChildren();
    video.group.models.forEach((model, number) => {
      for (const index of kept(video.found[number], model)) {
        const { label, kind, score } = describe(video, video.found[number], index);
        const { start, end } = video.found[number];
        const row = add(body, "tr");
        for (const text of [model.name, label, start[index], end[index], score, kind]) {
          add(row, "td", {}, `${text}`);
        }
      }
    });
  }

  function choose(video) {
    if (!video) return;
    state.video = video;
    update();
  }

  function step(by) {
    choose(state.shown[state.shown.indexOf(state.video) + by]);
  }

  // Filter the videos by their names and classes; keep the present video if it matches.
  function filter(text) {
    const wanted = text.trim().toLowerCase();
    const words = ({ name, truth, group }) =>
      [name, ...truth.map(([label]) => group.classes[label])].join("\n").toLowerCase();
    const shown = videos.filter((video) => words(video).includes(wanted));
    byId("filter").setCustomValidity(shown.length ? "" : "no such video or class");
    byId("filter").reportValidity();
    if (!shown.length) return;
    Object.assign(state, { filter: text, shown });
    if (!shown.includes(state.video)) state.video = shown[0];
    byId("video").replaceChildren();
    for (const group of data.groups) {
      const own = shown.filter((video) => video.group === group);
      const parent = data.groups.length > 1 && own.length
        ? add(byId("video"), "optgroup", { label: group.title }) : byId("video");
      for (const video of own) {
        const names = [...new Set(video.truth.map(([label]) => group.classes[label]))];
        const text = names.length ? `${video.name} (${names.join(", ")})` : video.name;
        add(parent, "option", { value: videos.indexOf(video) }, text);
      }
    }
  }

  // Show the state in the controls and the timeline.
  function show() {
    const { video, shown, share } = state;
    const place = shown.indexOf(video);
    byId("video").value = videos.indexOf(video);
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === shown.length - 1;
    byId("count").textContent = `${place + 1} of ${shown.length}`;
    byId("share").value = share;
    byId("kept").textContent = `${data.shares[share]} %`;
    draw();
  }

  function update() {
    show();
    const { video, share, filter: words } = state;
    const entries = { group: video.group.title, video: video.name, best: data.shares[share] };
    if (words) entries.filter = words;
    history.replaceState(null, "", `#${new URLSearchParams(entries)}`);
  }

  // Restore the state from the address; parts that it lacks stay unchanged.
  function restore() {
    const given = new URLSearchParams(location.hash.slice(1));
    if (given.has("filter")) {
      byId("filter").value = given.get("filter");
      filter(given.get("filter"));
    }
    const wanted = state.shown.find(
      (video) => video.name === given.get("video") && video.group.title === given.get("group"),
    );
    const share = data.shares.indexOf(Number(given.get("best")));
    if (wanted) state.video = wanted;
    if (share >= 0) state.share = share;
    show();
    if (given.has("video")) byId("videos").scrollIntoView();
  }

  byId("filter").addEventListener("input", (event) => {
    filter(event.target.value);
    update();
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("video").addEventListener("change", (event) => choose(videos[event.target.value]));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("share").addEventListener("input", (event) => {
    state.share = Number(event.target.value);
    update();
  });
  byId("listed").addEventListener("toggle", () => byId("listed").open && list());
  addEventListener("hashchange", restore);
  addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const other = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (!by || other || event.target.closest("input, select, .wide")) return;
    event.preventDefault();
    step(by);
  });
  byId("timeline").addEventListener("pointermove", (event) => {
    const svg = byId("timeline").firstChild;
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const place = (event.clientX - box.left) * scale;
    const share = (place - LEFT) / (svg.viewBox.baseVal.width - LEFT - RIGHT);
    const within = share >= 0 && share <= 1;
    const cursor = svg.querySelector(".cursor");
    cursor.setAttribute("visibility", within ? "visible" : "hidden");
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, place);
    const time = within ? `at ${seconds(share * state.video.duration)}` : "";
    const text = [event.target.dataset.tip, time].filter(Boolean).join("\n");
    const tip = byId("tip");
    tip.hidden = !text;
    tip.textContent = text;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
  byId("timeline").addEventListener("pointerleave", () => {
    byId("tip").hidden = true;
    byId("timeline").querySelector(".cursor").setAttribute("visibility", "hidden");
  });

  filter("");
  restore();
  let drawn = byId("timeline").clientWidth; // forces the layout of the page
  new ResizeObserver(() => {
    if (byId("timeline").clientWidth === drawn) return;
    drawn = byId("timeline").clientWidth;
    draw();
  }).observe(byId("timeline"));
  dataset.ready = performance.now().toFixed(1);
})();
