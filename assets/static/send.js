"use strict";
// The person has confirmed already: what was kept goes on by itself. Without a script the button does it.
document.querySelector("form[data-send]")?.requestSubmit();
