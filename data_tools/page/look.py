"""The page around its parts: style, the one script, and a policy that lets nothing else run or load."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from data_tools.visible import visible

STYLE = """
:root { color-scheme: light dark; --ground: #fcfcfb; --raised: #fff; --ink: #1c1e21; --faint: #62676e; --line: #dcdee1;
  --prompt: #5b6b7f; --chosen: #1f7a4d; --rejected: #b5472f; --margin: #6a57a5; --track: #eceef0;
  --chosen-mark: #cdeedb; --rejected-mark: #fbd9d0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15171a; --raised: #1c1f23; --ink: #e3e5e8; --faint: #9aa1a9; --line: #33383e;
    --prompt: #8ea2bb; --chosen: #55b98a; --rejected: #e2806a; --margin: #a998e0; --track: #272b30;
    --chosen-mark: #1d4a35; --rejected-mark: #5c2c22; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 4rem; max-width: 90rem; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; } h4 { font-size: .85rem; margin: 0 0 .35rem; }
p { margin: .25rem 0 .75rem; color: var(--faint); max-width: 75ch; } small { color: var(--faint); font-weight: normal; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 0; }
.tiles dt { color: var(--faint); font-size: .85rem; } .tiles dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
.tiles small { font-size: .9rem; white-space: nowrap; }
.thirds { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 0 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: normal; } thead th { color: var(--faint); font-size: .8rem; vertical-align: bottom; }
th:first-child, tbody th, thead .name { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody th:first-child { min-width: 7rem; } tr.first th, tr.first td { border-top: 1px solid var(--faint); }
td.draw, th.draw { width: 34%; min-width: 6rem; padding-right: 0; }
.wide { overflow-x: auto; } .wide td.draw, .wide th.draw { padding-right: .9rem; }
@media screen and (max-width: 40rem) { .more, .scale :nth-child(2):not(:last-child) { display: none; } }
.scale { display: flex; justify-content: space-between; }
svg { display: block; width: 100%; } svg.share { height: 16px; } svg.amount { height: 9px; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
.bar.prompt { fill: var(--prompt); } .bar.chosen { fill: var(--chosen); } .bar.rejected { fill: var(--rejected); }
.bar.margin { fill: var(--margin); } .beyond { opacity: .5; } .track { fill: var(--track); }
.grid { stroke: var(--line); } .axis { stroke: var(--faint); }
.median { stroke: var(--ink); stroke-dasharray: 3 3; }
.half, .interval { stroke: var(--faint); vector-effect: non-scaling-stroke; }
.interval { stroke: var(--ink); stroke-width: 1.5px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.25rem 2rem; }
figure { margin: 0; max-width: 30rem; } figcaption { font-size: .9rem; margin-bottom: .25rem; }
form { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; align-items: baseline; padding: .6rem 0; position: sticky;
  top: 0; background: var(--ground); border-bottom: 1px solid var(--line); z-index: 1; }
[hidden] { display: none; }
label { color: var(--faint); font-size: .85rem; } output { color: var(--faint); font-size: .85rem; }
select, input { font: inherit; color: var(--ink); background: var(--raised); border: 1px solid var(--line);
  border-radius: 4px; padding: .2rem .4rem; max-width: 14rem; }
article { border-top: 1px solid var(--line); padding: 1.1rem 0 1.4rem; }
.facts { font-size: .85rem; color: var(--ink); max-width: none; overflow-wrap: anywhere; }
.facts span { color: var(--faint); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.prompt { max-height: 18rem; overflow: auto; margin-bottom: .75rem; padding-left: .75rem;
  border-left: 3px solid var(--prompt); }
.turn { margin-bottom: .5rem; } .turn b { color: var(--faint); font-size: .8rem; font-weight: 600; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: .75rem; }
.sides > div { background: var(--raised); border: 1px solid var(--line); border-top: 3px solid; border-radius: 4px;
  padding: .6rem .8rem; min-width: 0; }
.sides > .chosen { border-top-color: var(--chosen); } .sides > .rejected { border-top-color: var(--rejected); }
.sides .text { max-height: 34rem; overflow: auto; }
mark { color: inherit; border-radius: 2px; } .chosen mark { background: var(--chosen-mark); }
.rejected mark { background: var(--rejected-mark); }
.note { font-size: .85rem; color: var(--faint); margin: .4rem 0 0; }
details { margin-top: .75rem; } summary { cursor: pointer; font-size: .9rem; }
details p { margin: .75rem 0 .1rem; font-size: .85rem; font-weight: 600; max-width: none; }
p.right { color: var(--chosen); } p.wrong { color: var(--rejected); } p.invalid { color: var(--margin); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } form { display: none; }
  .prompt, .sides .text { max-height: none; overflow: visible; } figure, tr { break-inside: avoid; }
  .sides { grid-template-columns: 1fr 1fr; } h2, h3, h4 { break-after: avoid; }
  mark, .bar, .track { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
const form = document.getElementById("filter"), fields = ["source", "category", "text"].map(id => form.elements[id]);
const pairs = [...document.querySelectorAll("article")].map(one => [one, one.textContent.toLowerCase()]);
function show() {
  const [source, category, text] = fields.map(field => field.value);
  let n = 0;
  for (const [one, words] of pairs) {
    const fits = (!source || one.dataset.source === source) && (!category || one.dataset.category === category)
      && words.includes(text.toLowerCase());
    one.hidden = !fits;
    n += fits;
  }
  document.getElementById("count").value = `${n} of ${pairs.length} shown`;
}
form.addEventListener("input", show);
form.addEventListener("submit", event => event.preventDefault());
form.hidden = false;
show();
"""


def document(title: str, body: str, style: str | None = None, script: str | None = None) -> str:
    """The whole page. Nothing is loaded from anywhere, and of styles and scripts only these two run: their hashes
    stand in the policy, so that no text of the data could ever become a program.

    Args:
        style, script: in place of those of a page of pairs.
    """
    style, script = STYLE if style is None else style, SCRIPT if script is None else script
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    shown = escape(visible(title))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{shown}</h1>\n"
        f"{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
