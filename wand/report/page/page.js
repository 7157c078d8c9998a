"use strict";
(() => {
  const get = (id) => document.getElementById(id);

  // Only one sound plays at a time.
  document.addEventListener("play", (event) => {
    for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
  }, true);

  // A line in the spectrogram shows the place; a click moves it there.
  for (const figure of document.querySelectorAll(".player")) {
    const audio = figure.querySelector("audio"), time = figure.querySelector(".time"), head = figure.querySelector(".head");
    if (!time) continue;
    const follow = () => {
      head.hidden = audio.currentTime === 0;
      head.style.left = `${100 * audio.currentTime / audio.duration}%`;
      if (!audio.paused) requestAnimationFrame(follow);
    };
    for (const name of ["play", "seeked", "ended"]) audio.addEventListener(name, follow);
    time.addEventListener("click", (event) => {
      const share = event.offsetX / time.clientWidth;
      const go = () => { audio.currentTime = share * audio.duration; audio.play(); };
      if (audio.readyState > 0) return go();
      audio.addEventListener("loadedmetadata", go, { once: true });
      audio.load();
    });
  }

  // The blind comparison.
  const trials = JSON.parse(get("trials").textContent);
  const labels = [...new Set(trials.flatMap((trial) => Object.keys(trial.sounds)))];
  if (labels.length < 2) return;
  const one = get("one"), other = get("other");
  let rounds = [], votes = [];

  for (const select of [one, other]) for (const label of labels) select.add(new Option(label));
  one.value = labels.find((label) => /student$/.test(label)) ?? labels[0];
  other.value = labels.find((label) => /teacher$/.test(label)) ?? labels.find((label) => label !== one.value);

  const both = () => trials.filter((trial) => one.value !== other.value && trial.sounds[one.value] && trial.sounds[other.value]);
  const show = (id) => { for (const part of ["setup", "trial", "verdict"]) get(part).hidden = part !== id; };
  const percent = (share) => share > 0 && share < 0.005 ? "less than 1 %" : `${Math.round(100 * share)} %`;

  const countSentences = () => {
    const count = both().length;
    get("count").textContent = count ? `${count} ${count === 1 ? "sentence has" : "sentences have"} sounds of both.`
      : "No sentence has sounds of both: choose two other systems.";
    get("pair").querySelector("button").disabled = !count;
  };

  const shuffled = (list) => {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [copy[i], copy[j]] = [copy[j], copy[i]];
    }
    return copy;
  };

  const next = () => {
    if (votes.length === rounds.length) return finish();
    const { trial, a, b } = rounds[votes.length];
    get("place").textContent = `Sentence ${votes.length + 1} of ${rounds.length}`;
    get("said").textContent = trial.text;
    get("a").src = trial.sounds[a];
    get("b").src = trial.sounds[b];
    get("said").focus();
  };

  const finish = () => {
    document.body.classList.remove("blinded");
    for (const side of ["a", "b"]) { get(side).pause(); get(side).removeAttribute("src"); }
    const names = [one.value, other.value];
    const counts = names.map((name) => votes.filter((vote) => vote === name).length);
    const equal = votes.length - counts[0] - counts[1];
    get("result").textContent = verdict(names, counts);
    get("tally").replaceChildren(...[[names[0], counts[0]], [names[1], counts[1]], ["no difference", equal]].map(([name, count]) => {
      const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
      head.scope = "row";
      head.className = "word";
      head.textContent = name;
      cell.textContent = count;
      row.append(head, cell);
      return row;
    }));
    get("votes-as-text").hidden = true;
    show("verdict");
    get("result").focus();
  };

  const verdict = (names, counts) => {
    const decided = counts[0] + counts[1];
    if (!votes.length) return "No votes.";
    if (!decided) return `You heard no difference in ${votes.length} of ${votes.length} sentences.`;
    const better = counts[0] === counts[1] ? "As many votes for one as for the other."
      : `You preferred ${names[counts[0] > counts[1] ? 0 : 1]} in ${Math.max(...counts)} of ${votes.length} sentences.`;
    return `${better} If there were no difference, votes as uneven as these would be ${percent(signTest(...counts))} likely `
      + "(two-sided sign test without the votes for no difference).";
  };

  // Chance that fair coins fall at least as unevenly.
  const signTest = (first, second) => {
    const count = first + second;
    let term = 0.5 ** count, tail = 0;
    for (let k = 0; k <= Math.min(first, second); k++) {
      tail += term;
      term *= (count - k) / (k + 1);
    }
    return Math.min(1, 2 * tail);
  };

  const asText = () => {
    const lines = rounds.slice(0, votes.length).map(({ trial, a, b }, i) => [trial.id, a, b, votes[i] ?? "no difference"].join("\t"));
    return [["sentence", "A", "B", "vote"].join("\t"), ...lines].join("\n") + "\n";
  };

  get("pair").addEventListener("change", countSentences);
  get("pair").addEventListener("submit", (event) => {
    event.preventDefault();
    const pair = [one.value, other.value];
    rounds = shuffled(both()).map((trial) => {
      const [a, b] = shuffled(pair);
      return { trial, a, b };
    });
    votes = [];
    document.body.classList.add("blinded");
    show("trial");
    next();
  });
  for (const button of document.querySelectorAll("[data-vote]")) {
    button.addEventListener("click", () => {
      votes.push(rounds[votes.length][button.dataset.vote] ?? null);
      next();
    });
  }
  get("stop").addEventListener("click", finish);
  get("again").addEventListener("click", () => show("setup"));
  get("as-text").addEventListener("click", () => {
    get("votes-as-text").value = asText();
    get("votes-as-text").hidden = false;
    get("votes-as-text").select();
  });
  countSentences();
  get("blind").hidden = false;
})();
