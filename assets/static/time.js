"use strict";
// Times in the reader's own zone; without a script they stand in the server's.
// The clock of 24 hours, and the day before the month.
const locale = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const shapes = {
  clock: { hour: "2-digit", minute: "2-digit" },
  second: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  day: { day: "numeric", month: "long", year: "numeric" },
  moment: { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" },
};
for (const time of document.querySelectorAll("time[data-time]")) {
  const shape = shapes[time.dataset.time];
  // The end of a pause is never told too early: by the minute it is the next one.
  const unit = time.dataset.left && time.dataset.time === "clock" ? 60000 : 1;
  const shown = new Date(Math.ceil(new Date(time.dateTime) / unit) * unit);
  time.textContent = shown.toLocaleString(locale, { hourCycle: "h23", ...shape }).replace(" at ", ", ");
}

// The end of a pause also counts down: for the eye each second, aloud at 60 s and 20 s alone.
const says = document.createElement("p");
says.className = "vh";
says.setAttribute("role", "status");
document.body.append(says);
for (const time of document.querySelectorAll("time[data-left]")) {
  const left = document.createElement("span");
  left.setAttribute("aria-hidden", "true");
  time.after(left);
  const tick = () => {
    const seconds = Math.ceil((new Date(time.dateTime) - Date.now()) / 1000);
    if (seconds <= 0) {
      left.textContent = "";
      says.textContent = time.dataset.now;
      return;
    }
    if (seconds < 3600) left.textContent = ` (${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")})`;
    if (seconds === 60 || seconds === 20) says.textContent = time.dataset.left.replace("{n}", seconds);
    setTimeout(tick, 1000);
  };
  tick();
}
