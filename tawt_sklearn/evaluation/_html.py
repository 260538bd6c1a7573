"""Pieces of HTML pages that need nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from html import escape

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #55585c; --page: #ffffff;
  --panel: #f4f5f7; --rule: #d5d8dc; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --soft: #a9adb3; --page: #16181b;
  --panel: #212429; --rule: #3b4046; --mark: #7db8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.25rem 4rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; }
a { color: var(--mark); }
p, li { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .92rem; }
nav { background: var(--panel); padding: .6rem 1rem; border-radius: .4rem; }
nav ul { margin: .2rem 0; padding-left: 1.2rem; columns: 15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; }
td.number { text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--rule); }
th.number { text-align: right; }
tr.group th { background: var(--panel); font-size: .9rem; }
td small { display: block; color: var(--soft); }
td.own { font-weight: 600; } td.own small { font-weight: 400; }
figure { margin: 0 0 1.2rem; }
figure img { width: 100%; height: auto; display: block; background: #ffffff; padding: .4rem;
  border: 1px solid var(--rule); border-radius: .4rem; }
figcaption { margin-top: .4rem; }
dt { font-weight: 600; margin-top: .7rem; } dd { margin: 0 0 0 1rem; max-width: 46rem; }
"""
"""Of every page: readable by day and by night, and printed."""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def image(svg: bytes, alt: str) -> str:
    """A drawing inside the page.

    As data of its own, not as a part of the page: the ids within drawings are the same in each.
    """
    data = b64encode(svg).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def paragraphs(*texts: str) -> str:
    """Texts, escaped."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)
