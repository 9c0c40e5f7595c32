"""What did each client ask, what was it told, and was it allowed to be told that then?

An entry is written when the outcome is known. `ok` is an answer that is right in every byte, or the refusal that
was due. Everything else must fall into the window of a fault that may have caused it; what is `WRONG` has no excuse.
"""

import collections
import json
import time


class Window:
    """From a fault's beginning until some seconds after its end. `allowed` maps the kind of a request, or `*`, to
    the outcomes that the documentation promises for it."""

    def __init__(self, name, allowed, grace, who):
        self.name, self.allowed, self.grace, self.who = name, allowed, grace, who
        self.began, self.ended = time.monotonic(), None

    def excuses(self, entry):
        until = float("inf") if self.ended is None else self.ended + self.grace
        meets = entry["began"] <= until and entry["ended"] >= self.began
        outcomes = self.allowed.get(entry["kind"], self.allowed.get("*", ()))
        return meets and self.who in (None, entry["who"]) and any(entry["outcome"].startswith(one) for one in outcomes)


class Journal:
    def __init__(self, path):
        self.out = open(path, "w", buffering=1 << 16)
        self.began = time.monotonic()
        self.counts = collections.Counter()
        self.troubles, self.windows = [], []
        self.posts = {}
        self.sign_ins, self.sign_outs, self.ends = [], [], []
        self.last_sign_in = 0.0

    def enter(self, kind, who, target, began, outcome):
        entry = {"kind": kind, "who": who, "target": target, "began": began, "ended": time.monotonic(),
                 "outcome": outcome}  # fmt: skip
        self.out.write(json.dumps(entry) + "\n")
        self.counts[kind, outcome] += 1
        if outcome != "ok":
            self.troubles.append(entry)

    def wrong(self, kind, who, target, began, what):
        self.enter(kind, who, target, began, f"WRONG {what}")

    def window(self, name, allowed, grace=3.0, who=None):
        """`who`: it can touch this person's requests only."""
        one = Window(name, allowed, grace, who)
        self.windows.append(one)
        if who is None:
            print(f"{time.monotonic() - self.began:7.1f} s  {name}", flush=True)
        return one

    def unexcused(self):
        return [one for one in self.troubles
                if one["outcome"].startswith("WRONG") or not any(w.excuses(one) for w in self.windows)]  # fmt: skip

    def table(self):
        kinds = sorted({kind for kind, _ in self.counts})
        lines = []
        for kind in kinds:
            of = {outcome: n for (k, outcome), n in sorted(self.counts.items()) if k == kind}
            others = ", ".join(f"{n} × {outcome}" for outcome, n in of.items() if outcome != "ok")
            lines.append(f"  {kind:<12} {of.get('ok', 0):>9} right" + (f"; {others}" if others else ""))
        return "\n".join(lines)
