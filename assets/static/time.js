"use strict";
// Times in the reader's own zone; without a script they stand in the server's.
const shapes = {
  clock: { hour: "2-digit", minute: "2-digit" },
  day: { day: "numeric", month: "long", year: "numeric" },
};
shapes.moment = { ...shapes.day, ...shapes.clock };
for (const time of document.querySelectorAll("time[data-time]")) {
  const at = new Date(time.dateTime);
  time.textContent = at.toLocaleString("en-GB", { hourCycle: "h23", ...shapes[time.dataset.time] }).replace(" at ", ", ");
}
