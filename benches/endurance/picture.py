"""The memory of the gate over time as a picture, and whether it grows."""

WIDE, HIGH, LEFT, TOP = 900, 260, 60, 30


def slope(points, warm_up=0.2):
    """MiB an hour by least squares, without the first fifth: caches fill, and pools get their size."""
    points = points[int(len(points) * warm_up):]
    if len(points) < 3:
        return 0.0
    x, y = sum(at for at, _ in points) / len(points), sum(mib for _, mib in points) / len(points)
    spread = sum((at - x) ** 2 for at, _ in points)
    return sum((at - x) * (mib - y) for at, mib in points) / spread * 3600 if spread else 0.0


def draw(path, points, windows):
    """`windows`: (begin, end, name) of the faults, as grey bands that say their name when pointed at."""
    last, most = points[-1][0], max(mib for _, mib in points) * 1.15
    across, up = (lambda at: LEFT + at / last * WIDE), (lambda mib: TOP + HIGH - mib / most * HIGH)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + 20} {TOP + HIGH + 40}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{LEFT + WIDE + 20}" height="{TOP + HIGH + 40}" fill="#fff"/>',
           f'<text x="{LEFT}" y="18">Memory of the gate in MiB (proportional set size), faults in grey</text>']  # fmt: skip
    for begin, end, name in windows:
        width = max(1.0, across(end) - across(begin))
        text = name.replace("&", "&amp;").replace("<", "&lt;")
        out.append(f'<rect x="{across(begin):.1f}" y="{TOP}" width="{width:.1f}" height="{HIGH}" fill="#ddd">'
                   f"<title>{text}</title></rect>")  # fmt: skip
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if most / s <= 8)
    for mib in range(0, int(most) + 1, step):
        out.append(f'<path d="M{LEFT} {up(mib):.1f}h{WIDE}" stroke="#bbb" stroke-width=".5"/>'
                   f'<text x="{LEFT - 8}" y="{up(mib) + 4:.1f}" text-anchor="end">{mib}</text>')  # fmt: skip
    minutes = max(1, round(last / 60 / 10))
    for at in range(0, int(last / 60) + 1, minutes):
        out.append(f'<text x="{across(at * 60):.1f}" y="{TOP + HIGH + 18}" text-anchor="middle">{at}</text>')
    out.append(f'<text x="{LEFT + WIDE}" y="{TOP + HIGH + 34}" text-anchor="end">minutes</text>')
    line = "L".join(f"{across(at):.1f} {up(mib):.1f}" for at, mib in points)
    out.append(f'<path d="M{line}" fill="none" stroke="#0550ae" stroke-width="1.5"/></svg>')
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")
