"""What a report looks like, in the light and in the dark, and the few lines that answer a finger."""

from __future__ import annotations

_LIGHT = """
--paper:#f6f6f3; --card:#fff; --ink:#1c1f23; --muted:#5b626b; --rule:#dfdfd9; --grid:#ebebe6; --lane:#f1f1ed;
--right:#0069b4; --wrong:#c8330a; --missed:#1c1f23; --way0:#9aa3ad; --way1:#c79a3c; --way2:#8fae84; --way3:#b08cb5;
--s0:#0069b4; --s1:#a9adb3; --s2:#7d848c; --s3:#d18a00; --s4:#bf5b93; --s5:#00845f; --s6:#7253b8;
--v0:#9aa3ad; --v1:#9aa3ad; --v2:#d18a00; --v3:#bf5b93; --v4:#00845f; --v5:#0069b4; --turn:none;
"""
_DARK = """
--paper:#121417; --card:#1a1d21; --ink:#e7e8ea; --muted:#9ba3ad; --rule:#32373d; --grid:#272b30; --lane:#22262a;
--right:#5cb6f2; --wrong:#ff7847; --missed:#e7e8ea; --way0:#737c87; --way1:#a98440; --way2:#6f8d65; --way3:#94729a;
--s0:#5cb6f2; --s1:#6b7178; --s2:#8f969e; --s3:#efb042; --s4:#e28cba; --s5:#3fc79b; --s6:#ab92ea;
--v0:#737c87; --v1:#737c87; --v2:#efb042; --v3:#e28cba; --v4:#3fc79b; --v5:#5cb6f2; --turn:invert(1);
"""

_PAGE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 10px; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 6px 0; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px;
  margin: 16px 0 0; min-width: 0; }
.two { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 16px; }
.muted, .note { color: var(--muted); }
.note { font-size: .86rem; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 18px; }
.facts > span { overflow-wrap: anywhere; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 10px; margin-top: 16px; }
.tile { margin: 0; padding: 10px 12px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile dt { font-size: .86rem; color: var(--muted); line-height: 1.25; }
.tile dd { margin: 2px 0 0; font-size: 1.65rem; line-height: 1.2; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.tile dd.note { font-size: .78rem; font-weight: 400; }
.tile dd.right { color: var(--right); } .tile dd.wrong { color: var(--wrong); }
.scroll { overflow-x: auto; max-width: 100%; }
.wide > svg { min-width: 760px; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--muted); font-weight: 500; }
.number { text-align: right; }
.number:last-child { padding-right: 0; }
summary { cursor: pointer; padding: 8px 0; color: var(--muted); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; margin: 8px 0 0;
  font-size: .9rem; }
.legend li { min-width: 0; overflow-wrap: anywhere; }
.statuses { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.swatch { width: 14px; height: 14px; vertical-align: -2px; } .swatch.long { width: 34px; }
.swatch path { fill: none; }
.pair { border-top: 1px solid var(--rule); padding: 14px 0; }
.pair:first-of-type { border-top: 0; padding-top: 0; }
.pair img { display: block; max-width: 100%; height: auto; border-radius: 4px; margin-top: 6px; }
.pair .facts { font-size: .9rem; }
#said { position: fixed; left: 50%; bottom: 14px; transform: translateX(-50%); width: max-content;
  pointer-events: none;
  max-width: min(92vw, 560px); padding: 8px 12px; border-radius: 8px; background: var(--ink);
  color: var(--paper); font-size: .9rem; }
"""

_PLOT = """
.plot { display: block; width: 100%; height: auto; }
.scroll > .plot { max-width: 620px; } .wide > .plot { max-width: none; }
.plot text { font: 13px system-ui, sans-serif; fill: var(--muted); font-variant-numeric: tabular-nums; }
.plot .axis-name, .plot .lane-name { fill: var(--ink); }
.plot path { fill: none; }
.grid { stroke: var(--grid); } .axis { stroke: var(--rule); } .border { stroke: var(--muted); stroke-dasharray: 3 3; }
.threshold { stroke: var(--ink); stroke-dasharray: 6 4; opacity: .7; }
.plot .threshold-name { fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.cells { image-rendering: pixelated; filter: var(--turn); }
.plot .lane { fill: var(--lane); }
.way { stroke-width: 1.6; stroke-linejoin: round; }
.way0 { stroke: var(--way0); } .way1 { stroke: var(--way1); stroke-dasharray: 7 3; }
.way2 { stroke: var(--way2); stroke-dasharray: 2 3; } .way3 { stroke: var(--way3); stroke-dasharray: 9 3 2 3; }
.mark { stroke-width: 1.4; }
.plot .mark.start, .swatch .mark.start { fill: var(--card); stroke: var(--muted); stroke-width: 2; }
.edge { opacity: .6; } .edge.wrong { stroke-width: 2.2; opacity: .9; }
.right { stroke: var(--right); } .wrong { stroke: var(--wrong); } .missed { stroke: var(--missed); }
.plot .mark.right, .swatch .mark.right { fill: var(--right); }
.mark.wrong { stroke-width: 2.4; }
.plot .mark.missed, .swatch .mark.missed { fill: var(--card); }
.plot .mark.unjudged, .swatch .mark.unjudged { fill: var(--card); stroke: var(--right); }
.plot .run { stroke: none; } .plot .run.wrong { fill: var(--wrong); } .plot .run.missed { fill: var(--missed); }
.plot .p50 { fill: var(--right); } .p95 { stroke: var(--right); stroke-width: 2; opacity: .7; }
.curve { stroke-width: 2; stroke-linejoin: round; }
.plot .chosen, .swatch .chosen { fill: var(--card); stroke-width: 2; } .swatch .chosen { stroke: var(--ink);
  fill: none; }
.v1 { stroke-dasharray: 2 3; } .v2 { stroke-dasharray: 8 4; } .v3 { stroke-dasharray: 8 3 2 3;
  } .v4 { stroke-dasharray: 4 3; }
.curve.v5 { stroke-width: 3; } .swatch .mark { stroke-dasharray: none; } .chosen { stroke-dasharray: none; }
.hint { fill: transparent; stroke: none; }
"""
_STATUS = "".join(
    f".s{kind} {{ stroke: var(--s{kind}); }} .plot .mark.s{kind}, .swatch .mark.s{kind} {{ fill: var(--s{kind}); }} "
    f".plot .run.s{kind} {{ fill: var(--s{kind}); }} "
    for kind in range(7)
)
_CURVES = "".join(f".v{kind} {{ stroke: var(--v{kind}); }} " for kind in range(6))

_NARROW = """
@media (max-width: 760px) { .two { grid-template-columns: minmax(0, 1fr); gap: 0; } .card { padding: 12px;
  } main { padding: 16px 10px 48px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .scroll:not(.wide) > .plot text { font-size: 16.5px; } }
@media print { .card, .tile, .pair { break-inside: avoid; } main { max-width: none; } }
"""

STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT} }} @media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}"
    + _PAGE
    + _PLOT
    + _STATUS
    + _CURVES
    + _NARROW
)

SCRIPT = """
(function () {
  var box = document.getElementById("said");
  function say(event) {
    var plot = event.target.closest && event.target.closest("svg.plot"), best = null, least = 22;
    if (plot) {
      var at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      plot.querySelectorAll(".hint").forEach(function (item) {
        var away = Math.hypot(item.cx.baseVal.value - at.x, item.cy.baseVal.value - at.y);
        if (away < least) { least = away; best = item; }
      });
    }
    box.hidden = !best;
    if (best) { box.textContent = best.firstChild.textContent; }
  }
  document.addEventListener("pointermove", say);
  document.addEventListener("pointerdown", say);
})();
"""
