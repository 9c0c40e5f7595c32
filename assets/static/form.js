"use strict";
// Adds to forms what works without a script too, only less comfortably.

// Show the password; hidden again before it is sent, so that browsers offer to save it.
for (const button of document.querySelectorAll("[data-reveal]")) {
  const input = document.getElementById(button.dataset.reveal);
  const show = (on) => {
    input.type = on ? "text" : "password";
    button.setAttribute("aria-pressed", on);
  };
  button.hidden = false;
  button.addEventListener("click", () => show(input.type === "password"));
  input.form.addEventListener("submit", () => show(false));
}

// The part after # never reaches a server by itself; carry it to the app.
for (const input of document.querySelectorAll("input[name=fragment]")) {
  input.value = location.hash;
}

for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    // A second press is a second try for the server.
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    const button = event.submitter;
    const words = button?.dataset.submit;
    if (words) {
      setTimeout(() => {
        button.textContent = words;
        button.setAttribute("role", "status");
      }, 1000);
    }
  });
}

// Back from the history: the page is as it was left, with the button spent.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
