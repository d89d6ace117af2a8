"use strict";
// Every question and answer of the page. The data are packed into the page itself: nothing is
// fetched. What comes from models and files is only ever set as text, never as markup.
(() => {
  const PAGE_ROWS = 40;
  const STATES = {
    right: { mark: "✓", words: "right" },
    wrong: { mark: "✗", words: "wrong" },
    looped: { mark: "↻", words: "wrong, repeats itself" },
    unfinished: { mark: "·", words: "not right yet, still writing" },
    failed: { mark: "!", words: "no answer: every mirror failed" },
  };
  const STOPS = {
    eos: "ended by itself",
    limit: "cut off by the limit of its tokens",
    failed: "no mirror gave an answer",
  };
  const root = document.getElementById("explorer");
  const packed = document.getElementById("explorer-data");
  if (!root || !packed) return;

  const field = (name) => root.querySelector(`[name="${name}"]`);
  const place = (name) => root.querySelector(`[data-place="${name}"]`);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") made.className = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  async function unpack() {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  // --- Seconds ------------------------------------------------------------------------------

  function seconds(value) {
    if (value === 0) return "0 s";
    const digits = (x) => x.toPrecision(3);
    if (value < 0.09995) return `${digits(value * 1000)} ms`;
    if (value < 120) return `${digits(value)} s`;
    if (value < 7200) return `${digits(value / 60)} min`;
    return `${digits(value / 3600)} h`;
  }

  // How many of sorted numbers are at most a limit.
  function atMost(sorted, limit) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= limit) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  class Answer {
    constructor(data, clock, c, q) {
      const configuration = data.configurations[c];
      const table = clock.quantizations[configuration.quantization];
      this.tokens = configuration.tokens[q];
      this.prompt = configuration.prompt_tokens[q];
      this.first = table.first[this.prompt];
      this.decoded = table.decoded;
      this.start = configuration.closing_start[q] ?? -1;
      this.closing = configuration.closing_tokens[q] ?? 0;
      this.closed = this.start < 0 ? 0 : clock.closed[c][q];
    }

    // When the token ends; the first one is 1.
    secondsOf(token) {
      if (this.start >= 0 && token > this.start) {
        const depth = this.prompt + this.start + this.closing;
        const rest = Math.max(token - this.start - this.closing - 1, 0);
        return this.closed + this.decoded[depth + rest] - this.decoded[depth];
      }
      return this.first + this.decoded[this.prompt + token - 1] - this.decoded[this.prompt];
    }

    // So many tokens are there within the time.
    within(limit) {
      if (limit === Infinity) return this.tokens;
      const slack = limit * (1 + 1e-9);
      let plain = 0;
      if (slack >= this.first) {
        const depth = atMost(this.decoded, slack - this.first + this.decoded[this.prompt]);
        plain = Math.min(Math.max(depth - this.prompt, 1), this.tokens);
      }
      if (this.start < 0) return plain;
      if (slack < this.closed) return Math.min(plain, this.start);
      const depth = this.prompt + this.start + this.closing;
      const more = atMost(this.decoded, slack - this.closed + this.decoded[depth]) - depth - 1;
      return Math.min(this.start + this.closing + 1 + Math.max(more, 0), this.tokens);
    }
  }

  // --- Grades -------------------------------------------------------------------------------

  function rightAfter(configuration, q, grader, tokens) {
    const turns = configuration.turns[grader]?.[q] ?? [];
    return atMost(turns, tokens) % 2 === 1;
  }

  function stateOf(configuration, q, grader, tokens) {
    if (configuration.stop[q] === "failed") return "failed";
    if (rightAfter(configuration, q, grader, tokens)) return "right";
    if (tokens < configuration.tokens[q]) return "unfinished";
    return configuration.looped[q] ? "looped" : "wrong";
  }

  // --- The table ----------------------------------------------------------------------------

  class Explorer {
    constructor(data) {
      this.data = data;
      this.page = 0;
      this.open = null;
      this.lower = null;
      this.fill();
      root.querySelector("form").addEventListener("input", () => this.soon());
      root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
      field("clock").addEventListener("input", () => this.slide());
      field("place").addEventListener("input", () => this.slide());
      field("seconds").addEventListener("change", () => this.typed());
      place("whole").addEventListener("click", () => {
        field("place").value = field("place").max;
        this.slide();
        this.update();
      });
      this.slide();
      this.update();
    }

    fill() {
      const choices = (name, values, all) => {
        const select = field(name);
        if (all) select.append(element("option", { value: "" }, all));
        for (const [value, text] of values) select.append(element("option", { value }, text));
        if (select.options.length < 2) select.closest("label").hidden = true;
      };
      const every = (values) => [...new Set(values)].map((value) => [value, value]);
      const { configurations, questions, clocks, graders } = this.data;
      choices("clock", clocks.map((clock, i) => [i, clock.label]));
      choices("quantization", every(configurations.map((c) => c.quantization)), "all");
      choices("prompt", every(configurations.map((c) => c.prompt)), "all");
      choices("way", every(configurations.map((c) => c.way)), "all");
      choices("family", every(questions.map((q) => q.family).filter(Boolean)).sort(), "all");
      choices("grader", graders.map((g) => [g, g.replace("_", "-")]));
      const ways = field("way");
      // Beside each other, answers that were asked for in the same way compare best.
      if (ways.options.length > 2) ways.selectedIndex = 1;
    }

    get clock() {
      return this.data.clocks[Number(field("clock").value)];
    }

    // The slider is logarithmic, from the quickest token to the slowest answer.
    span() {
      this.spans ??= new Map();
      const clock = this.clock;
      if (!this.spans.has(clock)) {
        let [low, high] = [Infinity, 0];
        this.data.configurations.forEach((configuration, c) => {
          if (!clock.quantizations[configuration.quantization]) return;
          configuration.tokens.forEach((tokens, q) => {
            const answer = new Answer(this.data, clock, c, q);
            low = Math.min(low, answer.first);
            if (tokens > 0) high = Math.max(high, answer.secondsOf(tokens));
          });
        });
        if (!(low > 0)) low = high > 0 ? high / 1000 : 1;
        this.spans.set(clock, [low, Math.max(high, low)]);
      }
      return this.spans.get(clock);
    }

    slide() {
      const slider = field("place");
      const share = Number(slider.value) / Number(slider.max);
      const [low, high] = this.span();
      this.limit = share >= 1 ? Infinity : low * (high / low) ** share;
      field("seconds").value = share >= 1 ? "" : Number(this.limit.toPrecision(3));
      const words = share >= 1 ? "as long as it takes" : seconds(this.limit);
      place("limit").textContent = words;
      slider.setAttribute("aria-valuetext", words);
    }

    typed() {
      const value = Number(field("seconds").value.replace(",", "."));
      const slider = field("place");
      if (!(value > 0)) {
        slider.value = slider.max;
        this.slide();
      } else {
        const [low, high] = this.span();
        const share = high > low ? Math.log(value / low) / Math.log(high / low) : 1;
        slider.value = Math.round(Math.min(Math.max(share, 0), 1) * Number(slider.max));
        this.limit = value;
        place("limit").textContent = seconds(value);
        slider.setAttribute("aria-valuetext", seconds(value));
      }
      this.update();
    }

    soon() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        this.page = 0;
        this.update();
      }, 60);
    }

    shown() {
      const wanted = {
        quantization: field("quantization").value,
        prompt: field("prompt").value,
        way: field("way").value,
      };
      return [...this.data.configurations.keys()].filter((c) => {
        const configuration = this.data.configurations[c];
        return (
          this.clock.quantizations[configuration.quantization] &&
          Object.entries(wanted).every(([name, value]) => !value || configuration[name] === value)
        );
      });
    }

    tokensWithin(c, q) {
      return new Answer(this.data, this.clock, c, q).within(this.limit);
    }

    update() {
      const shown = this.shown();
      const grader = field("grader").value;
      const rows = [];
      const right = shown.map(() => 0);
      let counted = 0;
      this.data.questions.forEach((question, q) => {
        if (field("family").value && question.family !== field("family").value) return;
        const tokens = shown.map((c) => this.tokensWithin(c, q));
        const states = shown.map((c, i) =>
          stateOf(this.data.configurations[c], q, grader, tokens[i]),
        );
        if (!this.wanted(q, shown, states, tokens) || !this.found(q, shown)) return;
        states.forEach((state, i) => (right[i] += state === "right"));
        counted += 1;
        rows.push({ q, states, wrong: states.filter((state) => state !== "right").length });
      });
      if (field("order").value === "wrong") rows.sort((a, b) => b.wrong - a.wrong || a.q - b.q);
      this.rows = rows;
      this.page = Math.min(this.page, Math.max(0, Math.ceil(rows.length / PAGE_ROWS) - 1));
      this.drawTable(shown, right, counted);
      this.drawPager();
      const total = this.data.questions.length;
      place("count").textContent =
        `${rows.length} of ${total} questions, ` +
        `${shown.length} of ${this.data.configurations.length} configurations`;
      if (this.open !== null) this.drawDetail(shown);
    }

    wanted(q, shown, states, tokens) {
      const isRight = (state) => state === "right";
      switch (field("verdict").value) {
        case "wrong":
          return !states.every(isRight);
        case "all-wrong":
          return !states.some(isRight);
        case "all-right":
          return states.every(isRight);
        case "differ":
          return states.some(isRight) && !states.every(isRight);
        case "graders":
          return shown.some((c, i) => {
            const configuration = this.data.configurations[c];
            const verdicts = Object.keys(configuration.turns).map((grader) =>
              rightAfter(configuration, q, grader, tokens[i]),
            );
            return new Set(verdicts).size > 1;
          });
        case "odd":
          return shown.some((c) => {
            const configuration = this.data.configurations[c];
            return (configuration.stop[q] ?? "eos") !== "eos" || configuration.looped[q];
          });
        default:
          return true;
      }
    }

    found(q, shown) {
      const words = field("search").value.trim().toLowerCase();
      if (!words) return true;
      const question = this.data.questions[q];
      if (`${question.id} ${question.text} ${question.expected}`.toLowerCase().includes(words)) {
        return true;
      }
      this.lower ??= this.data.texts.map((text) => text.toLowerCase());
      return shown.some((c) => {
        const text = this.data.configurations[c].text[q];
        return text >= 0 && this.lower[text].includes(words);
      });
    }

    drawTable(shown, right, counted) {
      const { configurations } = this.data;
      const groups = [];
      for (const c of shown) {
        const name = configurations[c].quantization;
        if (groups.at(-1)?.name === name) groups.at(-1).size += 1;
        else groups.push({ name, size: 1 });
      }
      const head = element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", { scope: "col", rowspan: 2, class: "key" }, "Question"),
          ...groups.map(({ name, size }) =>
            element("th", { scope: "colgroup", colspan: size, class: "group" }, name),
          ),
        ),
        element(
          "tr",
          {},
          ...shown.map((c, i) =>
            element(
              "th",
              { scope: "col", class: "configuration" },
              element("span", { class: "upright" },
                `${configurations[c].prompt}, ${configurations[c].way}`),
              element("span", { class: "share" },
                counted ? `${((100 * right[i]) / counted).toFixed(1)} %` : "–"),
            ),
          ),
        ),
      );
      const start = this.page * PAGE_ROWS;
      const body = element("tbody");
      for (const { q, states } of this.rows.slice(start, start + PAGE_ROWS)) {
        const question = this.data.questions[q];
        const button = element(
          "button",
          { type: "button", "aria-expanded": String(this.open === q), "data-question": q,
            onclick: () => this.show(q) },
          element("b", {}, question.id.split("-")[0]),
          ` ${question.text.slice(0, 110)}`,
        );
        body.append(
          element(
            "tr",
            this.open === q ? { class: "open" } : {},
            element("th", { scope: "row", class: "key" }, button),
            ...states.map((state) =>
              element(
                "td",
                { class: `state ${state}` },
                element("span", { "aria-hidden": "true" }, STATES[state].mark),
                element("span", { class: "unseen" }, STATES[state].words),
              ),
            ),
          ),
        );
      }
      place("table").replaceChildren(element("table", { class: "matrix" }, head, body));
    }

    drawPager() {
      const pages = Math.max(1, Math.ceil(this.rows.length / PAGE_ROWS));
      place("page").textContent = `Page ${this.page + 1} of ${pages}`;
      for (const [name, step] of [["earlier", -1], ["later", 1]]) {
        const button = place(name);
        button.disabled = this.page + step < 0 || this.page + step >= pages;
        button.onclick = () => {
          this.page += step;
          this.update();
        };
      }
    }

    show(q) {
      this.open = this.open === q ? null : q;
      this.update();
      const detail = place("detail");
      detail.hidden = this.open === null;
      if (this.open === null) return;
      detail.focus({ preventScroll: true });
      detail.scrollIntoView({ block: "start" });
    }

    step(by) {
      const at = this.rows.findIndex((row) => row.q === this.open);
      const next = this.rows[at + by];
      if (!next) return;
      this.open = next.q;
      this.page = Math.floor((at + by) / PAGE_ROWS);
      this.update();
    }

    close() {
      const q = this.open;
      this.open = null;
      place("detail").hidden = true;
      this.update();
      root.querySelector(`[data-question="${q}"]`)?.focus();
    }

    drawDetail(shown) {
      const question = this.data.questions[this.open];
      const at = this.rows.findIndex((row) => row.q === this.open);
      const button = (text, action, disabled) => {
        const made = element("button", { type: "button", onclick: action }, text);
        made.disabled = disabled;
        return made;
      };
      const time = this.limit === Infinity ? "whole" : `cut at ${seconds(this.limit)}`;
      place("detail").replaceChildren(
        element("h3", {}, `Question ${question.id}`,
          question.family ? ` (${question.family})` : "", `, answers ${time}`),
        element("p", { class: "buttons" },
          button("Previous", () => this.step(-1), at <= 0),
          button("Next", () => this.step(1), at < 0 || at + 1 >= this.rows.length),
          button("Close", () => this.close(), false)),
        element("p", { class: "question" }, question.text),
        element("p", {}, "Right answer: ", element("b", {}, question.expected)),
        element("div", { class: "cards" }, ...shown.map((c) => this.card(c, this.open))),
      );
    }

    card(c, q) {
      const configuration = this.data.configurations[c];
      const answer = new Answer(this.data, this.clock, c, q);
      const tokens = answer.within(this.limit);
      const state = stateOf(configuration, q, field("grader").value, tokens);
      const graders = Object.keys(configuration.turns).map((grader) => {
        const right = rightAfter(configuration, q, grader, tokens);
        return `${grader.replace("_", "-")} ${right ? "✓" : "✗"}`;
      });
      const stop = STOPS[configuration.stop[q] ?? "eos"] + (configuration.looped[q] ? ", repeats itself" : "");
      const length =
        answer.tokens === 0
          ? "no tokens"
          : `${tokens} of ${answer.tokens} tokens; the whole answer takes ` +
            `${seconds(answer.secondsOf(answer.tokens))}`;
      return element(
        "article",
        { class: `card ${state}` },
        element("h4", {}, element("span", { "aria-hidden": "true" }, `${STATES[state].mark} `),
          `${configuration.quantization}: ${configuration.prompt}, ${configuration.way}`),
        element("p", {}, `${STATES[state].words}. ${graders.join(", ")}.`),
        element("p", { class: "muted" }, `${length}; ${stop}.`),
        this.text(configuration, q, answer, tokens),
      );
    }

    // What was there in time, what came later, and what was put into the answer's mouth.
    text(configuration, q, answer, tokens) {
      const found = configuration.text[q];
      if (found < 0) return element("p", { class: "muted" }, "Its text is not in this page.");
      const [text, ends] = [this.data.texts[found], this.data.ends[found]];
      const until = (token) => {
        let characters = 0;
        for (let i = 0; i < Math.min(token, ends.length); i++) characters += ends.charCodeAt(i) - 48;
        return Math.min(characters, text.length);
      };
      const pre = element("pre", {});
      const cuts = [0, until(tokens), text.length];
      const given = answer.start < 0 ? [] :
        [until(answer.start), until(answer.start + answer.closing)];
      const places = [...new Set([...cuts, ...given])].sort((a, b) => a - b);
      for (let i = 0; i + 1 < places.length; i++) {
        const [from, to] = [places[i], places[i + 1]];
        const late = from >= cuts[1];
        const put = given.length && from >= given[0] && to <= given[1];
        if (late && from === cuts[1]) {
          pre.append(element("span", { class: "cut", "aria-label": "cut here" }, "✂"));
        }
        pre.append(
          late || put
            ? element("span", { class: [late && "late", put && "given"].filter(Boolean).join(" ") },
                text.slice(from, to))
            : text.slice(from, to),
        );
      }
      return pre;
    }
  }

  async function start() {
    const status = place("status");
    try {
      status.textContent = "Unpacking the answers …";
      const explorer = new Explorer(await unpack());
      status.hidden = true;
      root.querySelector("form").hidden = false;
      place("all").hidden = false;
      root.dataset.ready = explorer.data.questions.length;
    } catch (error) {
      status.textContent = `The answers cannot be shown by this browser (${error.message}).`;
    }
  }

  // A page of many answers opens at once; they are unpacked when one scrolls near them.
  const watcher = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      start();
    },
    { rootMargin: "800px" },
  );
  watcher.observe(root);
})();
