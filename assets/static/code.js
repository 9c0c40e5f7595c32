"use strict";
// Six digits that were pasted or filled in one go are sent at once, once. Typed ones never are:
// they come one by one, so the field was not empty before the last.
for (const input of document.querySelectorAll("[data-digits]")) {
  let before = "";
  input.addEventListener("input", () => {
    const digits = input.value.replace(/[\s-]/g, "");
    const whole = /^[0-9]+$/.test(digits) && digits.length === Number(input.dataset.digits);
    const others = [...input.form.elements].some((e) => e !== input && e.required && !e.value);
    if (whole && !others && !before && !input.dataset.done) {
      input.dataset.done = "1";
      input.form.requestSubmit();
    }
    before = digits;
  });
}
