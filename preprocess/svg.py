"""One plot: a bar chart as inline SVG.

Our own, since matplotlib is a heavy dependency for bars, and turns text into outlines that no screen reader reads.
"""

from collections.abc import Mapping
from html import escape

WIDTH, LABEL, VALUE, ROW, BAR = 760, 190, 180, 26, 16  # pixels; a value may be "40,000,000,000 (100.0%)"
LONGEST_LABEL = 27  # characters


def bar_chart(title: str, values: Mapping[str, float], shown: Mapping[str, str], longest: float = 0) -> str:
    """A horizontal bar for each value, with its label on the left and what is shown of it on the right.

    Args:
        longest: the value of a bar of the whole width; 0: the largest value.
    """
    height, room = ROW * len(values) + 4, WIDTH - LABEL - VALUE
    unit = room / (longest or max(values.values(), default=0) or 1)
    bars = []
    for number, (label, value) in enumerate(values.items()):
        y = ROW * number + 2
        short = label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
        width, middle = max(value * unit, 1 if value else 0), y + BAR / 2 + 5
        bars.append(
            f"<g><title>{escape(label)}: {escape(shown[label])}</title>"
            f'<text x="{LABEL - 10}" y="{middle:g}" text-anchor="end">{escape(short)}</text>'
            f'<rect class="all" x="{LABEL}" y="{y}" width="{room}" height="{BAR}" rx="3"/>'
            f'<rect class="bar" x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3"/>'
            f'<text x="{LABEL + room + 10}" y="{middle:g}">{escape(shown[label])}</text></g>'
        )
    said = "; ".join(f"{label}: {shown[label]}" for label in values)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>\n" + "\n".join(bars) + "</svg>"
    )
