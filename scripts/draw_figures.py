"""Draws the two figures of the documentation: how data flows in training, and in labelling with coherence.

    python scripts/draw_figures.py        # docs/data-flow.svg, docs/coherence-flow.svg

The colours are readable on light and on dark pages: white text on filled boxes, and a grey for lines and captions.
"""

from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
GREY, STAGE, PEERS, ASIDE = "#7d8590", "#3949ab", "#bf360c", "#546e7a"
WIDTH = 700


def text(x: float, y: float, words: str, size: int = 15, fill: str = GREY, weight: str = "normal", anchor="middle"):
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, title: str, *lines: str, fill: str = STAGE, dashed: bool = False) -> str:
    """A filled box whose height follows from its lines (52 with one); dashed: only where the scheme asks for it."""
    height = 34 + 18 * len(lines)
    edge = 'stroke="#ffffff" stroke-width="1.5" stroke-dasharray="5 4"' if dashed else ""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="9" fill="{fill}" {edge}/>']
    parts.append(text(x + width / 2, y + 23, title, 17, "#ffffff", "bold"))
    parts += [text(x + width / 2, y + 42 + 18 * i, line, 13, "#ffffff") for i, line in enumerate(lines)]
    return "".join(parts)


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    dash = 'stroke-dasharray="4 5"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{GREY}" stroke-width="2" {dash} marker-end="url(#head)"/>'


def save(name: str, height: float, title: str, parts: list[str]) -> None:
    head = (
        '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{GREY}"/></marker>'
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">'
        f"<title>{escape(title)}</title><defs>{head}</defs>\n" + "\n".join(parts) + "\n</svg>\n"
    )
    (DOCS / name).write_text(svg)


def column(stages: list[tuple[str, str, str, str]], x: float, width: float, step: float) -> list[str]:
    """Boxes from top to bottom, each with (title, line, what it hands on, fill)."""
    parts = []
    for i, (title, line, record, fill) in enumerate(stages):
        y = 10 + i * step
        parts.append(box(x, y, width, title, line, fill=fill))
        if i + 1 < len(stages):
            middle = x + width / 2
            parts.append(arrow((middle, y + 52), (middle, y + step)))
            parts.append(text(middle + 10, y + 52 + (step - 52) / 2 + 5, record, 13, anchor="start"))
    return parts


def training() -> None:
    x, width, step = 205, 290, 92
    stages = [
        ("questions", "no labels", "prompts", STAGE),
        ("rollout", "every peer answers, G times", "Rollout: text, tokens", PEERS),
        ("answers", "found in the text, made canonical", "Group: all peers, equal everywhere", STAGE),
        ("aggregate", "a vote, a likelihood, a last word", "Target per sample, or none", STAGE),
        ("rewards", "agreement, confidence, prediction", "Rewards", STAGE),
        ("weights", "PMI of response and aggregate, or 1", "Weights", STAGE),
        ("peer updates", "each peer by TRL's own GRPO", "", PEERS),
    ]
    parts = column(stages, x, width, step)
    at = lambda stage: 10 + stage * step + 26  # noqa: E731
    parts += [
        box(20, at(2) + 20, 130, "views", "further answers", fill=ASIDE, dashed=True),
        arrow((150, at(2) + 46), (178, at(2) + 46), (178, at(3) - 8), (x - 2, at(3) - 8), dashed=True),
        box(20, at(3) + 20, 130, "later turns", "a discussion", fill=ASIDE, dashed=True),
        arrow((x, at(3) + 10), (178, at(3) + 10), (178, at(3) + 38), (152, at(3) + 38), dashed=True),
        arrow((150, at(3) + 54), (178, at(3) + 54), (178, at(4)), (x - 2, at(4)), dashed=True),
        box(550, at(4) - 35, 130, "scorer", "log p of any text", "under any peer", fill=ASIDE, dashed=True),
        arrow((615, at(4) - 35), (615, at(3)), (x + width + 2, at(3)), dashed=True),
        arrow((550, at(4)), (x + width + 2, at(4)), dashed=True),
        arrow((615, at(4) + 35), (615, at(5)), (x + width + 2, at(5)), dashed=True),
        box(550, at(0) - 26, 130, "labels", "if there are any", fill=ASIDE),
        arrow((615, at(0) + 26), (615, at(1) - 14), dashed=True),
        text(615, at(1) + 4, "metrics only"),
        arrow((x, at(6)), (5, at(6)), (5, at(1)), (x - 2, at(1))),
        text(14, at(6) - 10, "next generation batch", 13, anchor="start"),
    ]
    save("data-flow.svg", 10 + 6 * step + 62, "Data flow of one generation batch", parts)


def coherence() -> None:
    x, width, step = 205, 290, 92
    stages = [
        ("rows", "a file, a Hub id", "load_claims, builders, templates", STAGE),
        ("claims", "prompts that end before a label", "prompts, label words; rules", STAGE),
        ("search", "labels that predict each other best", "Labelling", PEERS),
        ("files and a card", "labels, SFT and preference data", "", STAGE),
    ]
    parts = column(stages, x, width, step)
    at = lambda stage: 10 + stage * step + 26  # noqa: E731
    parts += [
        box(20, at(1) + 14, 130, "predictor", "a language model", fill=ASIDE),
        arrow((150, at(1) + 40), (178, at(1) + 40), (178, at(2)), (x - 2, at(2))),
        box(550, at(0) - 26, 130, "gold labels", "if there are any", fill=ASIDE),
        box(550, at(2) - 26, 130, "accuracy", "measured only", fill=ASIDE),
        arrow((615, at(0) + 26), (615, at(2) - 28), dashed=True),
        arrow((x + width, at(2)), (548, at(2)), dashed=True),
    ]
    save("coherence-flow.svg", 10 + 3 * step + 62, "From rows to labels", parts)


if __name__ == "__main__":
    training()
    coherence()
