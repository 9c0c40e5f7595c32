"use strict";
// Several tabs may wait at the sign-in. When a proof was sent in one, the others ask once more
// as soon as they are looked at: either they go on to their page, or they are shown anew.
// A tab with something typed stays as it is.
const channel = new BroadcastChannel("stepgate-sign-in");
const again = document.querySelector("[data-again]")?.dataset.again;
const typed = () => [...document.querySelectorAll("input:not([type=hidden])")].some((i) => i.value !== i.defaultValue);
let sent = false;
const go = () => {
  if (sent && again && !document.hidden && !typed()) location.replace(again + location.hash);
};
channel.addEventListener("message", () => {
  sent = true;
  // The proof is on its way when this is heard; a tab beside it waits for its answer.
  setTimeout(go, 2000);
});
document.addEventListener("visibilitychange", go);
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", () => channel.postMessage("sent"));
}
