"""The report's own style on top of that of the data tools' pages, and its script: switches that hide a judge."""

from __future__ import annotations

from data_tools.page import look
from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import COLOURS, series
from genrm_lightning.report_page.report import Report

MOST = 64  # switches; a report of more judges has none

_LIGHT = ("#2767b0", "#cf6413", "#1d8055", "#b2315f", "#7556b3", "#8a6a10", "#0f8696", "#5b6168")
_DARK = ("#74aef0", "#f39a4a", "#5cc48f", "#f07fa6", "#b59df0", "#d8b84c", "#4ccadb", "#adb4bc")

_MORE = """
body { max-width: 100rem; }
h1 { margin: 0 0 1rem; } h2 { font-size: 1.25rem; } section h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
section { scroll-margin-top: 3.5rem; } main { min-width: 0; overflow-wrap: anywhere; }
nav ul { list-style: none; margin: 0; padding: 0; } nav a { color: var(--faint); text-decoration: none; display: block;
  padding: .15rem 0; font-size: .9rem; } nav a:hover, nav a:focus { color: var(--ink); text-decoration: underline; }
@media screen and (min-width: 70rem) {
  .page { display: grid; grid-template-columns: 13rem minmax(0, 1fr); gap: 3rem; }
  nav { position: sticky; top: 1rem; align-self: start; }
}
@media not all and (min-width: 70rem) {
  nav ul { columns: 10rem; } nav { border-bottom: 1px solid var(--line); padding-bottom: .75rem; margin-bottom: 1rem; }
}
.lede { font-size: 1.35rem; line-height: 1.35; color: var(--ink); max-width: 60ch; margin: 0 0 1rem; }
.lede b { font-weight: 650; } .lede small { font-size: .8em; }
.standings { padding-left: 1.1rem; max-width: 85ch; margin: 0 0 .75rem; } .standings li { margin-bottom: .5rem; }
p b, li b { color: var(--ink); overflow-wrap: anywhere; } li, .lede { overflow-wrap: anywhere; }
.chip { display: inline-block; width: .7em; height: .7em; border-radius: 50%; background: var(--c);
  margin-right: .4em; vertical-align: baseline; }
.chip.d1 { background: none; border: 3px solid var(--c); } .chip.d2 { background: none; border: 2px dotted var(--c); }
#judges { flex-wrap: nowrap; overflow-x: auto; gap: .25rem 1.1rem; white-space: nowrap; }
#judges label { color: var(--ink); cursor: pointer; } #judges input { margin: 0 .35rem 0 0; accent-color: var(--c); }
.legend { display: none; }
table { width: auto; min-width: min(100%, 40rem); } .wide { margin: .5rem 0 1rem; }
td.draw, th.draw { width: 16rem; min-width: 11rem; } tbody th:first-child { max-width: 18rem; min-width: 10.5rem; }
small.own { display: block; }
td.name { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 26rem; }
.words th { text-align: left; } .faint, .faint b { color: var(--faint); }
table.heat { border-collapse: separate; border-spacing: 2px; width: auto; min-width: 0; }
.heat th, .heat td { border: 0; padding: .25rem .55rem; } .heat td { text-align: center; border-radius: 3px; }
.heat td.none { background: var(--track); } .heat td.faint { color: var(--faint); }
.heat thead th { max-width: 9rem; white-space: normal; overflow-wrap: anywhere; text-align: center; min-width: 4.8rem; }
.heat thead th:first-child { text-align: left; }
figure { max-width: 27rem; } .plots { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(10rem, 100%), 1fr)); gap: 1rem 1.5rem; }
@media screen and (min-width: 40rem) { .small { grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); } }
.small figure { max-width: 17rem; } figcaption { overflow-wrap: anywhere; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; } .line.thin { stroke-width: 1.25; }
.line.dashed { stroke-dasharray: 5 4; stroke-width: 1.5; } .line.d1 { stroke-dasharray: 8 3; }
.line.d2 { stroke-dasharray: 2 3; } .dot { fill: var(--c); stroke: var(--ground); stroke-width: 1; }
.dot.dashed { fill: var(--ground); stroke: var(--c); stroke-width: 1.5; } .band { fill: var(--c); opacity: .13; }
.diamond { fill: var(--ground); stroke: var(--c); stroke-width: 1.75; }
.whisker { stroke: var(--c); stroke-width: 1.5; opacity: .55; } .fill { fill: var(--c); opacity: .75; }
.level { fill: none; stroke: var(--faint); stroke-dasharray: 3 3; }
svg.share { height: 18px; } .range { fill: var(--c); opacity: .35; }
.tick { stroke: var(--c); stroke-width: 3px; vector-effect: non-scaling-stroke; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 2rem; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem .75rem; margin: 0; }
dl.facts dt { color: var(--faint); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
.sides > .judge { border-top-color: var(--c); }
.judge mark { background: color-mix(in srgb, var(--c) 24%, var(--raised)); }
.sides h4 small { display: block; font-weight: normal; } article .tiles { margin-top: .75rem; }
article .tiles dd { font-size: 1.1rem; } .tiles dt { overflow-wrap: anywhere; }
.right, small.right { color: var(--chosen); } .wrong, small.wrong { color: var(--rejected); }
small.invalid { color: var(--margin); } article .text { max-height: 16rem; overflow: auto; }
@media screen and (max-width: 40rem) {
  .wide th:first-child { position: sticky; left: 0; background: var(--ground); min-width: 6.5rem; max-width: 8rem; }
  td.draw, th.draw { min-width: 8rem; }
}
@media print {
  nav { columns: 2; } #judges { display: none; } .legend { display: block; max-width: none; }
  .legend span { margin-right: 1.2em; }
  .wide { overflow: visible; } table { font-size: .7rem; min-width: 0; } th, td { padding-right: .4rem; }
  td small { display: block; } td.draw, th.draw { width: 5.5rem; min-width: 4.5rem; }
  tbody th:first-child { min-width: 5rem; }
  .heat thead th { min-width: 2.5rem; font-size: .65rem; } .heat th, .heat td { padding: .15rem .3rem; }
  p { max-width: none; } section h3, figcaption { break-after: avoid; }
  .plots { grid-template-columns: 1fr 1fr; } .small { grid-template-columns: repeat(4, 1fr); }
  article .text, article .prompt { max-height: none; overflow: visible; } section { break-inside: auto; }
  .chip, .heat td, svg * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
const judges = document.getElementById("judges");
if (judges) {
  judges.addEventListener("input", event =>
    document.body.classList.toggle("h" + event.target.value, !event.target.checked));
  judges.addEventListener("submit", event => event.preventDefault());
  judges.hidden = false;
}
"""


def switches(report: Report) -> str:
    """A line of judges that hides and shows them everywhere, and is the charts' legend."""
    if not 1 < len(report.methods) <= MOST:
        return ""
    items = "".join(
        f'<label class="{series(i).partition(" ")[2]}"><input type=checkbox value={i} checked>'
        f'<i class="chip {series(i).partition(" ")[2]}"></i>{text(method.label)}</label>'
        for i, method in enumerate(report.methods)
    )
    return f"<form id=judges hidden>{items}</form>"


def document(title: str, body: str) -> str:
    """The whole page, under the same policy as the data tools' pages."""
    return look.document(title, body, look.STYLE + _colours() + _MORE + _hidden() + _heat(), SCRIPT)


def _colours() -> str:
    light, dark = ("".join(f"--m{i}: {c}; " for i, c in enumerate(its)) for its in (_LIGHT, _DARK))
    uses = "".join(f".m{i} {{ --c: var(--m{i}); }} " for i in range(COLOURS))
    return f":root {{ {light}}} @media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n{uses}\n"


def _hidden() -> str:
    return "\n".join(f"main .s{i}:is(.h{i} *) {{ display: none; }}" for i in range(MOST)) + "\n"


def _heat() -> str:
    """Deeper towards the ends; the middle lies on the page's ground."""
    return "\n".join(
        f".{sign}{i} {{ background: color-mix(in srgb, var(--{name}) {12 * i}%, var(--ground)); }}"
        for sign, name in (("p", "chosen"), ("n", "rejected"))
        for i in range(1, 6)
    )
