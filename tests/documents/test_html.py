"""Web pages as text, as a reader sees them. Expected texts are written by hand from what a browser shows."""

from __future__ import annotations

import pytest

from palmette.documents.html import html_text

PAGES = {
    "entities and spaces": (
        "<p>Notice: 28&nbsp;days, 5&#8239;&euro; &amp; <b>mo</b>re &lt;i&gt;, writ&shy;ing &#x2014; AT&T;",
        "Notice: 28 days, 5 € & more <i>, writing — AT&T;",
    ),
    "lines of source are no lines": (
        "<p>It leaves\n  at\t7:40.</p>\n<p>It returns.</p>",
        "It leaves at 7:40.\n\nIt returns.",
    ),
    "breaks": ("Pier 3<br>Harbour Street<br/>Port", "Pier 3\nHarbour Street\nPort"),
    "no scripts or styles": (
        "<script>if (a < b) document.write('<p>no</p>')</script><style>p { color: red }</style><p>yes</p><script>",
        "yes",
    ),
    "comments": ("a<!-- <p>no --> b<!--> c <!-- to the end", "a b c"),
    "lists": (
        "<ul><li>one<li>two</ul><ol start='3'><li>three</li><li>four</li></ol>",
        "- one\n- two\n\n3. three\n4. four",
    ),
    "paragraphs in items": (
        "<ol><li><p>one</p><p>more</p></li><li><ul><li>two</li></ul></li></ol><ul><li></li></ul>",
        "1. one\n\nmore\n\n- two",
    ),
    "items that are hidden have no number": ("<ol><li>one<li hidden>no<li>two</ol>", "1. one\n2. two"),
    "contents that no reader sees": (
        "<svg><title>no</title></svg><select><option>no</select><template><p>no</template><video>no</video>yes",
        "yes",
    ),
    "fields": ("<textarea>5 &lt; 6\n<b>yes</b></textarea>", "5 < 6 <b>yes</b>"),
    "text that has no place in a table": ("<table>before<tr><td>a<td>b</table>", "before\n\na | b"),
    "bytes of 0": ("28\0 days", "28 days"),
    "tables": (
        "<table><thead><tr><th><th>Basic<th>Pro<tbody><tr><td>Price<td><p>5 €</p>a month<td>9 €</table>after",
        "| Basic | Pro\nPrice | 5 € a month | 9 €\n\nafter",
    ),
    "tables that are only layout": (
        "<table><tr><td><p>a</p><p>b</p><p>c</p><p>d</p><p>e</p></td></tr></table>",
        "a\n\nb\n\nc\n\nd\n\ne",
    ),
    "preformatted": ("<pre>fee:\n    5\n</pre>", "fee:\n    5"),
    "navigation": (
        (
            "<header>Shop <a href='/'>Home</a></header><nav><ul><li>About</ul></nav><main><header>Terms</header><p>Text"
            "<footer>Signed</footer></main><div role='contentinfo'>Imprint</div><footer>© 2026</footer>"
        ),
        "Terms\n\nText\n\nSigned",
    ),
    "hidden": (
        "<p hidden>no</p><p style='display: none'>no</p><p aria-hidden=true>no</p><p class='hidden'>yes</p>",
        "yes",
    ),
    "the title": ("<head><title>Terms &amp; fees</title></head><p>Text", "Terms & fees\n\nText"),
    "a title that is a heading": ("<title>Terms</title><h1>Terms</h1>Text", "Terms\n\nText"),
    "quotes in tags": ("""<a href="a>b" title='c>d' data-x=e"f>link</a>""", "link"),
    "no tag": ("5 < 6 and a<b and 7 <8 </> </ >", "5 < 6 and a"),
    "mistakes": ("</p><b>bo<i>ld</b>er</i></table></td>", "bolder"),
}


@pytest.mark.parametrize("case", PAGES)
def test_pages_as_a_reader_sees_them(case: str) -> None:
    markup, text = PAGES[case]
    assert html_text(markup)[0] == text


def test_what_was_left_out_is_said() -> None:
    text, notes = html_text("<nav>Home</nav><p>Text</p>")
    assert (text, notes) == ("Text", ["left out navigation, header and footer of the page (4 characters)"])
    assert html_text("<p>Text</p>") == ("Text", [])


def test_a_page_of_navigation_alone_is_its_text() -> None:
    """A page whose author put all of it into <header> still has its text."""
    assert html_text("<header><p>The ferry leaves at 7:40.</p></header>") == ("The ferry leaves at 7:40.", [])


@pytest.mark.parametrize(
    ("markup", "last_line"),
    [
        ("<", "begin" + "<" * 2999),
        ("<!--", "begin"),
        ("<script>", "begin"),
        ('<a b="', "begin"),
        ("</p>", "end"),
        ("&", "begin" + "&" * 3000 + "end"),
        ("<div>", "end"),
        ("<ol><li>", "1. end"),
        ("<table><tr><td>", "end"),
        ("<b><p>", "end"),
    ],
)
def test_pages_nested_thousands_deep_are_read(markup: str, last_line: str) -> None:
    """No recursion: 3,000 open elements are more than Python's stack allows, and text after them is still read."""
    text, _ = html_text("begin" + markup * 3000 + "end")
    assert text.startswith("begin")
    assert text.rpartition("\n")[2] == last_line
