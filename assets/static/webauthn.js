"use strict";
// Asks the browser for a key and posts what it says. Without a script: the page names the other ways.
//   form[data-key]: "get" or "create", its question in data-options; [data-start] begins, [data-news] tells.
//   form[data-passkey]: a sign-in without a name, offered in the list of the name field as well.
const bytes = (text) => {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
};
const text = (buffer) => {
  if (!buffer) return null;
  const raw = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
};
const question = (form) => {
  const asked = JSON.parse(form.dataset.options);
  asked.challenge = bytes(asked.challenge);
  if (asked.user) asked.user.id = bytes(asked.user.id);
  for (const list of [asked.allowCredentials, asked.excludeCredentials]) {
    for (const key of list || []) key.id = bytes(key.id);
  }
  return asked;
};
const answer = ({ id, rawId, type, response }) => JSON.stringify({
  id, rawId: text(rawId), type, extensions: {},
  response: response.attestationObject
    ? { attestationObject: text(response.attestationObject), clientDataJSON: text(response.clientDataJSON),
        transports: response.getTransports?.() || [] }
    : { authenticatorData: text(response.authenticatorData), clientDataJSON: text(response.clientDataJSON),
        signature: text(response.signature), userHandle: text(response.userHandle) },
});
const send = (form, key) => {
  form.elements.answer.value = answer(key);
  form.requestSubmit();
};

for (const form of document.querySelectorAll("form[data-key], form[data-passkey]")) {
  const button = form.querySelector("[data-start]");
  const news = form.querySelector("[data-news]");
  const say = (what) => { news.textContent = what ? news.dataset[what] : ""; };
  if (!window.PublicKeyCredential) {
    if ("key" in form.dataset) say("none");
    continue;
  }
  const making = form.dataset.key === "create";
  let waiting = null;
  const ask = async (options) => {
    waiting?.abort();
    waiting = new AbortController();
    const all = { publicKey: question(form), signal: waiting.signal, ...options };
    const key = making ? await navigator.credentials.create(all) : await navigator.credentials.get(all);
    if (key) send(form, key);
  };
  button.hidden = false;
  button.addEventListener("click", async () => {
    if (!form.reportValidity()) return;
    say();
    button.disabled = true;
    try {
      await ask();
    } catch (error) {
      // Closed, timed out, or no such key here: browsers do not say which (WebAuthn section 14.5.1).
      say(error.name === "InvalidStateError" ? "known" : "nothing");
    }
    button.disabled = false;
  });
  if ("passkey" in form.dataset) {
    PublicKeyCredential.isConditionalMediationAvailable?.().then((offered) => {
      if (offered) ask({ mediation: "conditional" }).catch(() => {});
    });
  }
}
