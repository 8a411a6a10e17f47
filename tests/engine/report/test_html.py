"""The page: sections, links, escaping, and nothing from elsewhere."""

import re
from html.parser import HTMLParser

from engine.report.html import Picture, Section, Table, Text, page

VOID = {"meta", "img", "br", "link"}


class _Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html: str) -> str:
    parser = _Balanced()
    parser.feed(html)
    assert parser.open == []
    return " ".join(parser.text)


def test_a_page_has_its_sections_and_needs_nothing_else():
    table = Table(("name", "mm"), [("f & g", "1.0"), ("<b>", "2.0")], highlight=frozenset({0}))
    sections = [Section("Results", [table, Text("a < b")]), Section("Pictures of it", [Picture('a"b.png', "what it shows")])]
    html = page("A <title>", "summary", sections)
    text = parsed(html)
    for shown in ("A <title>", "summary", "Results", "f & g", "<b>", "2.0", "a < b", "what it shows"):
        assert shown in text
    assert 'href="#pictures-of-it"' in html and 'id="pictures-of-it"' in html and 'src="a&quot;b.png"' in html
    assert not re.search(r"https?://|@import|<script", html)
