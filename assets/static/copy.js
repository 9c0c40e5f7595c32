"use strict";
// Copy and print; without a script: select, and the browser's own print.
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const lines = source.querySelectorAll("li");
  const text = lines.length ? [...lines].map((l) => l.textContent).join("\n") : source.textContent;
  if (!navigator.clipboard) continue;
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text.trim());
    // The place for the news exists before it: otherwise it is not read out.
    button.nextElementSibling.textContent = button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 3000);
  });
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}
