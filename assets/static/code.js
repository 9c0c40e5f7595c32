"use strict";
// Six digits that were pasted or filled in one go are sent at once, once; typed ones never.
for (const input of document.querySelectorAll("[data-digits]")) {
  let before = "";
  input.addEventListener("input", (event) => {
    const digits = input.value.replace(/[\s-]/g, "");
    const whole = /^[0-9]+$/.test(digits) && digits.length === Number(input.dataset.digits);
    const others = [...input.form.elements].some((e) => e !== input && e.required && !e.value);
    if (whole && !others && !before && event.inputType !== "insertText" && !input.dataset.done) {
      input.dataset.done = "1";
      input.form.requestSubmit();
    }
    before = digits;
  });
}
