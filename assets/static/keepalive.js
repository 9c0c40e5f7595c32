"use strict";
// For pages of an app, if its admin adds it:
//   <script src="/.stepgate/static/keepalive.js" data-idle="15" defer></script>
// data-idle: minutes without a request after which the session ends (sessions.idle).
// Two minutes before that it asks (WCAG 2.2.1); "Stay signed in" is one request to the app. When the
// session has ended all the same, a fetch that got our 401 waits for a sign-in in another tab and is
// then sent again, so that what was typed is still there. If somebody else signs in, nothing of it is
// sent and nothing renewed: the page then gets the 401. Words: data-warn, data-stay, data-ended,
// data-sign-in, data-other, data-reload; {time} in the first is the end.
(() => {
  const { idle = "15", warn, stay, ended, signIn, other, reload } = document.currentScript.dataset;
  const words = {
    warn: warn || "You will be signed out at {time}.",
    stay: stay || "Stay signed in",
    ended: ended || "You have been signed out. What you typed here is still here.",
    signIn: signIn || "Sign in in another tab",
    other: other || "Somebody else is signed in now. What was typed here is not sent.",
    reload: reload || "Open this page anew",
  };
  const life = Number(idle) * 60_000;
  const before = Math.min(120_000, life / 2);
  const channel = new BroadcastChannel("stepgate-keepalive");
  const own = (url) => new URL(url, location.href).origin === location.origin;
  const send = window.fetch.bind(window);
  let seen = Date.now();
  let bar = null;
  let waiting = null;
  let foreign = false;

  const say = (text, label, act) => {
    bar?.remove();
    bar = document.createElement("div");
    bar.setAttribute("role", "alert");
    Object.assign(bar.style, {
      position: "fixed", inset: "0 0 auto 0", zIndex: "2147483647", padding: "12px 16px", background: "#1b1f1c",
      color: "#fff", font: "16px/1.5 system-ui, sans-serif", display: "flex", gap: "16px", flexWrap: "wrap",
      alignItems: "center",
    });
    const words = document.createElement("span");
    words.textContent = text;
    const button = document.createElement("button");
    Object.assign(button.style, {
      font: "inherit", padding: "6px 14px", background: "#fff", color: "#1b1f1c", border: "0", borderRadius: "4px",
    });
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", act);
    bar.append(words, button);
    document.body.append(bar);
  };
  const quiet = () => {
    bar?.remove();
    bar = null;
  };

  // Any request of any tab keeps the session.
  const alive = (heard) => {
    seen = Date.now();
    if (!waiting && !foreign) quiet();
    if (heard !== true) channel.postMessage("alive");
  };

  // Our 401, as against one of the app's own.
  const loginOf = async (answer) => {
    const kind = answer.headers.get("content-type") || "";
    if (answer.status !== 401 || !kind.startsWith("application/problem+json")) return null;
    const problem = await answer.clone().json().catch(() => ({}));
    return problem.login_url || problem.step_up_url || null;
  };
  const ask = () => send(location.href, { headers: { Accept: "application/json" }, cache: "no-store" });

  // Who is signed in, as something that only tells people apart; undefined when nobody can say.
  const person = async () => {
    const answer = await send("/.stepgate/person", { cache: "no-store" }).catch(() => null);
    return answer?.ok ? (await answer.json().catch(() => ({}))).person : undefined;
  };
  const owner = person();
  // Whether it is somebody else than the page was opened by. Where that is not known, it may be.
  const isOther = async (now) => {
    const first = await owner;
    return first === undefined || (first !== null && now !== first);
  };
  const tellOther = () => {
    foreign = true;
    say(words.other, words.reload, () => location.reload());
  };
  // Each page says whose it is when it opens.
  channel.addEventListener("message", async ({ data }) => {
    const first = await owner;
    if (!data.person) alive(true);
    else if (first && first !== data.person) tellOther();
  });
  owner.then((now) => now && channel.postMessage({ person: now }));

  // Resolves once somebody has signed in again: true for the person whose page this is.
  const signedIn = (url) => {
    waiting ||= new Promise((done) => {
      say(words.ended, words.signIn, () => window.open(url, "_blank", "noopener"));
      let looking = false;
      const over = (same) => {
        clearInterval(timer);
        window.removeEventListener("focus", look);
        waiting = null;
        if (same) alive();
        else tellOther();
        done(same);
      };
      const look = async () => {
        if (looking) return;
        looking = true;
        const now = await person();
        if (now !== null && now !== undefined) {
          const answer = (await isOther(now)) ? null : await ask().catch(() => undefined);
          if (answer === null) over(false);
          else if (answer && !(await loginOf(answer))) over(true);
        }
        looking = false;
      };
      const timer = setInterval(look, 3000);
      window.addEventListener("focus", look);
    });
    return waiting;
  };

  window.fetch = async (input, init) => {
    const request = new Request(input, init);
    if (!own(request.url)) return send(request);
    if (foreign) return new Response(null, { status: 401 });
    const again = request.clone();
    const answer = await send(request);
    const url = await loginOf(answer);
    if (!url) {
      alive();
      return answer;
    }
    // Asked once more: between two looks the machine may have changed hands.
    const same = !foreign && (await signedIn(url)) && !(await isOther(await person()));
    return same ? send(again) : answer;
  };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    if (own(url)) this.addEventListener("load", () => this.status !== 401 && alive());
    return open.call(this, method, url, ...rest);
  };

  setInterval(async () => {
    if (waiting || bar || foreign || Date.now() - seen < life - before) return;
    const time = new Date(seen + life).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    say(words.warn.replace("{time}", time), words.stay, async () => {
      const now = await person();
      if (now && (await isOther(now))) return tellOther();
      const answer = await ask().catch(() => null);
      const url = answer && (await loginOf(answer));
      if (url) signedIn(url);
      else if (answer) alive();
    });
  }, 1000);
})();
