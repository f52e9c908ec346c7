
"use strict";
(() => {
  const every = 5000;
  const renewed = "Renewed every 5 seconds.";
  const live = document.getElementById("live");
  let since = 0;
  const clock = () => new Date().toLocaleTimeString();
  const say = (how, text) => { // the same once more would be read aloud once more
    live.className = how;
    if (live.textContent !== text) live.textContent = text;
  };

  // What a visitor has opened or typed stays when the page is replaced.
  const filter = () => document.querySelector("#filter input");
  const apply = () => {
    const input = filter();
    if (!input) return;
    input.closest("p").hidden = false;
    const word = input.value.trim().toLowerCase();
    for (const row of document.querySelectorAll("#all tbody tr")) {
      row.hidden = word !== "" && !row.textContent.toLowerCase().includes(word);
    }
  };
  const replace = (next) => {
    const page = document.getElementById("page");
    const open = [...page.querySelectorAll("details[open]")].map((d) => d.id);
    const before = filter();
    const at = document.activeElement;
    const typing = before && at === before;
    const within = at && at.matches("summary") ? at.parentElement.id : "";
    page.replaceWith(document.adoptNode(next));
    for (const id of open) {
      const d = document.getElementById(id);
      if (d) d.open = true;
    }
    const after = filter();
    if (before && after) after.value = before.value;
    apply(); // which shows it
    if (typing && after) after.focus();
    const summary = within && document.querySelector("#" + within + " > summary");
    if (summary) summary.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(every) });
      const other = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = other.getElementById("page");
      if (!answer.ok || !next) throw new Error("no page");
      document.title = other.title;
      document.getElementById("icon").href = other.getElementById("icon").href;
      replace(next);
      since = 0;
      say("", renewed);
    } catch {
      if (since === 0) {
        since = clock();
        say("bad", "No answer from flanneld since " + since + ": this page is as it was then.");
      }
    }
  };

  document.addEventListener("input", (e) => { if (e.target === filter()) apply(); });
  document.addEventListener("visibilitychange", refresh);
  say("", renewed);
  apply();
  setInterval(refresh, every);
})();
