"""What all pages share: templates, the one script that they may run, and its digest."""

import base64
import hashlib

from jinja2 import Environment

from earsight.evaluation.rows import LOWER_IS_BETTER, format_value, is_share
from earsight.report.words import say
from earsight.templates import strict_templates

SCRIPT = """
document.querySelectorAll("[data-same-as]").forEach(function (player) {
  var first = document.getElementById(player.dataset.sameAs);
  player.src = first.src.split("#")[0] + player.dataset.fragment;
});
document.addEventListener("play", function (event) {
  document.querySelectorAll("video, audio").forEach(function (player) {
    if (player !== event.target) { player.pause(); }
  });
}, true);
"""
"""A clip shown twice is held once; one clip plays at a time."""


def environment() -> Environment:
    """The templates: strict, and escaping whatever they are given."""
    environment = strict_templates("earsight.report")
    environment.filters["say"] = say
    environment.globals.update(
        format_value=format_value, is_share=is_share, lower_is_better=LOWER_IS_BETTER
    )
    return environment


def script_hash() -> str:
    """The digest by which the page's policy admits its own script and no other."""
    return base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
