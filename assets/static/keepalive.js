"use strict";
// For pages of an app, if its admin adds it:
//   <script src="/.stepgate/static/keepalive.js" data-idle="15" defer></script>
// data-idle: minutes without a request after which the session ends (sessions.idle).
// Two minutes before that it asks (WCAG 2.2.1); "Stay signed in" is one request to the app. When the
// session has ended all the same, a fetch that got our 401 waits for a sign-in in another tab and is
// then sent again, so that what was typed is still there. Words: data-warn, data-stay, data-ended,
// data-sign-in; {time} in the first is the end.
(() => {
  const { idle = "15", warn, stay, ended, signIn } = document.currentScript.dataset;
  const words = {
    warn: warn || "You will be signed out at {time}.",
    stay: stay || "Stay signed in",
    ended: ended || "You have been signed out. What you typed here is still here.",
    signIn: signIn || "Sign in in another tab",
  };
  const life = Number(idle) * 60_000;
  const before = Math.min(120_000, life / 2);
  const channel = new BroadcastChannel("stepgate-keepalive");
  const own = (url) => new URL(url, location.href).origin === location.origin;
  const send = window.fetch.bind(window);
  let seen = Date.now();
  let bar = null;
  let waiting = null;

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
    if (!waiting) quiet();
    if (heard !== true) channel.postMessage("alive");
  };
  channel.addEventListener("message", () => alive(true));

  // Our 401, as against one of the app's own.
  const loginOf = async (answer) => {
    const kind = answer.headers.get("content-type") || "";
    if (answer.status !== 401 || !kind.startsWith("application/problem+json")) return null;
    const problem = await answer.clone().json().catch(() => ({}));
    return problem.login_url || problem.step_up_url || null;
  };
  const ask = () => send(location.href, { headers: { Accept: "application/json" }, cache: "no-store" });

  // Resolves once somebody has signed in again.
  const signedIn = (url) => {
    waiting ||= new Promise((done) => {
      say(words.ended, words.signIn, () => window.open(url, "_blank", "noopener"));
      const look = async () => {
        const answer = await ask().catch(() => null);
        if (answer && !(await loginOf(answer))) {
          clearInterval(timer);
          waiting = null;
          alive();
          done();
        }
      };
      const timer = setInterval(look, 3000);
      window.addEventListener("focus", look);
    });
    return waiting;
  };

  window.fetch = async (input, init) => {
    const request = new Request(input, init);
    if (!own(request.url)) return send(request);
    const again = request.clone();
    const answer = await send(request);
    const url = await loginOf(answer);
    if (!url) {
      alive();
      return answer;
    }
    await signedIn(url);
    return send(again);
  };
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    if (own(url)) this.addEventListener("load", () => this.status !== 401 && alive());
    return open.call(this, method, url, ...rest);
  };

  setInterval(async () => {
    if (waiting || bar || Date.now() - seen < life - before) return;
    const time = new Date(seen + life).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    say(words.warn.replace("{time}", time), words.stay, async () => {
      const answer = await ask().catch(() => null);
      const url = answer && (await loginOf(answer));
      if (url) signedIn(url);
      else if (answer) alive();
    });
  }, 1000);
})();
