"""PDF files: reading order, words divided at line ends, and the way back from each character to where it is drawn.

The files are drawn by ReportLab. Where characters stand is known from where they were drawn, and from the widths that
ReportLab has of the letters of the font.
"""

from __future__ import annotations

import re
import string
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from palmette.documents import read_document
from palmette.documents.layout import read_page
from palmette.documents.pdf import read_pdf
from palmette.documents.pieces import Piece
from palmette.errors import DataError
from tests.support.papers import lines, pdf, width

LEFT = [
    "The supplier delivers the goods within",
    "four weeks of the order. Delivery is to",
    "the customer's own premises, which it",
    "names in the order. The risk passes on",
    "delivery, and not before that day.",
]
RIGHT = [
    "The customer pays within thirty days of",
    "the invoice. After that day it owes the",
    "interest that the law provides for. The",
    "supplier may then hold back all further",
    "deliveries until everything is paid.",
]


def text_of(*pages: list[tuple[float, float, str]]) -> str:
    return read_pdf(pdf(*pages), "a.pdf")[0]


def test_every_character_leads_back_to_its_page_line_and_box(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    before = "The ferry leaves at "
    path.write_bytes(pdf(lines(["Timetable"]), [*lines(["Harbour Street"]), (72.0, 300.0, f"{before}7:40 sharp.")]))
    document = read_document(path)
    assert (document.kind, document.text) == ("pdf", f"Timetable\nHarbour Street\n{before}7:40 sharp.")
    place = document.place(document.text.index("7:40"))
    assert str(place) == "page 2, line 2"
    assert place.box is not None
    left, bottom, right, top = place.box
    assert left == pytest.approx(72.0 + width(before), abs=0.5)
    assert right == pytest.approx(72.0 + width(f"{before}7"), abs=0.5)
    assert bottom < 300.0 < 307.0 < top < 315.0, "from below the base line to above the letter"
    assert document.place(0).page == 1
    assert document.place(document.text.index(" leaves")).box is None, "a space is not drawn"


def test_a_passage_has_a_box_on_each_line_that_it_touches(tmp_path: Path) -> None:
    """It begins inside a line of one page, in a word divided there, and ends inside the second line of the next one."""
    path = tmp_path / "a.pdf"
    first, second, third = (
        "The notice period of the con-",
        "tract is twenty-eight days, which",
        "begin on the first day.",
    )
    path.write_bytes(pdf(lines([*["A line that is as long as the others here."] * 3, first]), lines([second, third])))
    document = read_document(path)
    start = document.text.index("contract is")
    passage = "contract is twenty-eight days, which begin"
    assert document.text[start:].startswith(passage)
    places = document.places(start, start + len(passage))
    assert [str(place) for place in places] == ["page 1, line 4", "page 2, line 1", "page 2, line 2"]
    drawn = [(first[:-4], first), ("", second), ("", "begin")]
    for place, (before, through) in zip(places, drawn, strict=True):
        assert place.box is not None
        assert place.box[0] == pytest.approx(72.0 + width(before), abs=0.5)
        assert place.box[2] == pytest.approx(72.0 + width(through.removesuffix("-")), abs=0.5)
    assert [round(place.box[1]) for place in places if place.box] == [round(y - 2.36) for y in (658.0, 700.0, 686.0)]
    record = document.place_record(start, start + len(passage))
    assert (record["page"], record["line"]) == (1, 4)
    assert [(box["page"], box["line"]) for box in record["boxes"]] == [(1, 4), (2, 1), (2, 2)]
    assert record["boxes"][2]["box"] == [round(edge, 2) for edge in places[2].box or ()]
    assert document.places(0, 1) == [document.place(0)]
    with pytest.raises(IndexError, match="offsets 3 to 3 of a text"):
        document.places(3, 3)


def test_columns_are_read_one_after_the_other_in_whatever_order_they_are_drawn() -> None:
    """Drawn line by line across both columns, as some programs do. The text is what a reader reads."""
    title = (150.0, 740.0, "Terms of sale of the harbour company, for all of its customers")
    drawn = [one for pair in zip(lines(LEFT), lines(RIGHT, x=330.0), strict=True) for one in pair]
    assert text_of([title, *drawn]).split("\n") == [title[2], " ".join(LEFT), " ".join(RIGHT)]
    assert text_of([*lines(RIGHT, x=330.0), title, *lines(LEFT)]).split("\n") == [
        title[2],
        " ".join(LEFT),
        " ".join(RIGHT),
    ]


def test_three_columns_are_read_one_after_the_other() -> None:
    """Their lines stand at other heights, as where headings are above them."""
    third = [
        "Each party may end the contract, giving a",
        "notice of four weeks. It sends a letter to",
        "the address that is named above. Whatever",
        "was ordered by then is still delivered, and",
        "what was delivered is still paid for.",
    ]
    columns = [LEFT, RIGHT, third]
    drawn = [(40.0 + 250.0 * i, 700.0 - 14.0 * j - 5.0 * i, columns[i][j]) for j in range(5) for i in range(3)]
    assert text_of(drawn).split("\n") == [" ".join(column) for column in columns]


def test_rows_of_a_table_are_lines_with_their_cells() -> None:
    rows = [("Plan", "Fee a month", "Notice"), ("Basic", "5 euros", "14 days"), ("Professional", "19 euros", "28 days")]
    drawn = [(72.0 + 150 * i, 700.0 - 20 * j, cell) for j, row in enumerate(rows) for i, cell in enumerate(row)]
    assert text_of(drawn).split("\n") == [" | ".join(row) for row in rows]
    right = [(72.0, 700.0 - 16 * j, f"Item {j}") for j in range(3)]
    right += [(400.0 - width(one), 700.0 - 16 * j, one) for j, one in enumerate(("5.00", "119.00", "20,000.00"))]
    assert text_of(right).split("\n") == ["Item 0 | 5.00", "Item 1 | 119.00", "Item 2 | 20,000.00"]


FERRY = ["The ferry leaves", "at seven in the", "morning, and on", "Sundays at nine.", "A ticket costs", "five crowns."]
DOGS = [
    "Dogs are welcome",
    "on the open deck",
    "and must be kept",
    "on a leash. Bikes",
    "cost one crown",
    "more, with room",
    "for ten of them.",
]
INTRODUCTION = (72.0, 740.0, "What the company says to all those who travel with its ferry:")


def test_narrow_columns_and_lists_side_by_side_are_no_table() -> None:
    drawn = [INTRODUCTION, *lines(FERRY), *lines(DOGS, x=200.0), (72.0, 560.0, "Eat before.")]
    assert text_of(drawn).split("\n") == [INTRODUCTION[2], " ".join(FERRY), " ".join(DOGS), "Eat before."]
    baking = ["• flour", "• six eggs, all", "of them fresh", "• butter"], ["• a bowl", "• a whisk", "• an oven"]
    apart = [(x, 700.0 - 14.0 * i, text) for i in range(3) for x, text in ((330.0, "•"), (350.0, baking[1][i][2:]))]
    items = ["• flour", "• six eggs, all of them fresh", "• butter", *baking[1]]
    for right in (lines(baking[1], x=330.0), apart):
        assert text_of([INTRODUCTION, *lines(baking[0]), *right]).split("\n") == [INTRODUCTION[2], *items]


TABLES = {
    "words": [
        ("flour", "two cups"),
        ("sugar", "one cup"),
        ("milk", "half a cup"),
        ("butter", "a spoon"),
        ("salt", "none"),
    ],
    "short lines": [
        ("notice of either party", "two weeks"),
        ("the rent of one month", "ten crowns"),
        ("fee", "one crown for each"),
        ("the use of the garden", "free of any charge"),
    ],
    "wrapped cells": [
        ("Delivery of the", "the supplier, who"),
        ("goods in full", "names a carrier"),
        ("Payment of the", "the customer, who"),
        ("price in full", "may name a bank"),
    ],
    "sums": [
        ("Fees of the year", "- 250"),
        ("Rent of the year", "- 900"),
        ("Heat of the year", "- 120"),
        ("All", "- 1,270"),
    ],
    "addresses": [
        ("Harbour Company", "Jane Roe"),
        ("12 Quay Street", "5 Mill Lane"),
        ("Leith EH6 6QQ", "Perth"),
        ("UK", "UK"),
    ],
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_short_lines_stay_tables(kind: str) -> None:
    rows = TABLES[kind]
    drawn = [*lines([left for left, _ in rows]), *lines([right for _, right in rows], x=330.0)]
    assert text_of([INTRODUCTION, *drawn]).split("\n") == [INTRODUCTION[2], *(" | ".join(row) for row in rows)]


def test_paragraphs_are_joined_and_kept_apart() -> None:
    """A gap, an item of a list and a line with room for the next word end a paragraph."""
    texts = lines(["The ferry leaves from pier 3 on every day of the", "week but Sunday.", "A ticket costs 5 crowns."])
    items = lines(["1. First of all, the passengers are counted, and", "then", "2. the ferry leaves."], top=600.0)
    assert text_of([*texts, *items]).split("\n") == [
        "The ferry leaves from pier 3 on every day of the week but Sunday.",
        "A ticket costs 5 crowns.",
        "1. First of all, the passengers are counted, and then",
        "2. the ferry leaves.",
    ]


def test_a_number_before_a_clause_is_no_cell() -> None:
    drawn = [
        one for j in range(3) for one in ((72.0, 700.0 - 20 * j, f"{j + 1}."), (110.0, 700.0 - 20 * j, "The fee."))
    ]
    assert text_of(drawn).split("\n") == ["1. The fee.", "2. The fee.", "3. The fee."]


DIVIDED = {
    "a divided word": (["The termi-", "nation of it"], "The termination of it"),
    "a number word": (["within twenty-", "eight days of"], "within twenty-eight days of"),
    "a word that is written so": (
        ["a long-", "term loan, and", "a long-term one"],
        "a long-term loan, and a long-term one",
    ),
    "a name": (["by Smith-", "Jones himself"], "by Smith-Jones himself"),
    "a soft hyphen": (["The termi\u00ad", "nation of it"], "The termination of it"),
    "a soft hyphen inside": (["The termi\u00adnation", "of it is now"], "The termination of it is now"),
    "a range": (["pages 20-", "25 of the text"], "pages 20-25 of the text"),
    "ligatures": (["the \ufb01nal one of", "the \ufb02oor is"], "the final one of the floor is"),
    "spaces": (["28\u00a0days after", "5\u202f000\u2009km of it"], "28 days after 5 000 km of it"),
}


@pytest.mark.parametrize("case", DIVIDED)
def test_what_the_printer_changed_is_changed_back(case: str) -> None:
    texts, expected = DIVIDED[case]
    assert text_of(lines(texts)) == expected


def test_a_sentence_goes_on_over_the_page() -> None:
    assert text_of(lines(["The fee is due within thirty"]), lines(["days of the invoice."])) == (
        "The fee is due within thirty days of the invoice."
    )
    assert text_of(lines(["The fee is due."]), lines(["Each day counts."])) == "The fee is due.\nEach day counts."


def test_running_heads_and_page_numbers_are_left_out_and_said() -> None:
    bodies = ["The ferry leaves at 7:40.", "A ticket costs 5 crowns.", "Dogs are welcome."]
    pages = [
        [
            (72.0, 780.0, "Harbour Company, Terms"),
            *lines([body, f"{body[:9]} a", f"{body[:9]} b"]),
            (280.0, 20.0, f"Page {i} of 3"),
        ]
        for i, body in enumerate(bodies, start=1)
    ]
    text, page_map, notes = read_pdf(pdf(*pages), "a.pdf")
    for body in bodies:
        assert body in text
    assert "Harbour" not in text
    assert " of 3" not in text
    assert notes == ["left out running heads and page numbers: 'Harbour Company, Terms', 'Page # of #'"]
    assert page_map.place(text.index("Dogs")).line == 2, "lines are counted as printed"
    two = [[*lines([f"Part {name}", "Text."]), (280.0, 20.0, f"- {i} -")] for i, name in enumerate("AB", start=1)]
    assert text_of(*two) == "Part A\nText.\nPart B\nText.", "numbers that are those of their pages"
    assert text_of([*lines(["Part A"]), (280.0, 20.0, "1")]) == "Part A\n1", "the only page"
    same = [lines(["The same on each page."])] * 4
    assert text_of(*same).split("\n") == ["The same on each page."] * 4, "a document that says one thing only"


ALIKE = {
    "articles": "Article {i}. The tenant pays 100.",
    "payments": "Payment {i} of 5: 250 euros on the first of the month.",
    "headings": "Invoice {n}",
    "sums": "{sum}",
    "a table": "Month {i}    {sum} euros",
    "enumerated": "{i}. The tenant pays for the water.",
    "a sentence": "The rent of 100 euros is due in month {i}",
    "page of another text": "See page {i} of the annex.",
}


@pytest.mark.parametrize("kind", ALIKE)
def test_paragraphs_that_differ_in_a_number_are_no_running_heads(kind: str) -> None:
    """They stand at the top of each page below a true head, and again at the bottom above a true page number."""
    said = [ALIKE[kind].format(i=i, n=1000 + i, sum=150 * i % 400) for i in range(1, 6)]
    pages = [
        [
            (72.0, 780.0, "Lease"),
            *lines([one, f"What follows about {name}.", "It is of no weight.", one], top=760.0),
            (300.0, 20.0, f"{i}"),
        ]
        for i, (one, name) in enumerate(zip(said, ("rent", "water", "heat", "light", "pets"), strict=True), start=1)
    ]
    text = text_of(*pages)
    wanted = [re.escape(" ".join(one.split())) for one in said]
    assert [len(re.findall(rf"\b{one}(?!\d)", text.replace(" | ", " "))) for one in wanted] == [2] * 5
    assert "Lease" not in text
    assert not any(line.isdecimal() for line in text.split("\n")) or kind == "sums"


HEADS = {
    "wide white space": lambda i: [(72.0, "Terms of sale"), (500.0, f"{i}")],
    "at the left": lambda i: [(72.0, f"{i}"), (300.0, "Terms of sale")],
    "a divider": lambda i: [(72.0, f"Terms of sale | {i}")],
    "a dash": lambda i: [(72.0, f"Terms of sale \u2013 Seite {i} von 6")],
    "a word": lambda i: [(72.0, f"Terms of sale Page {i}/6")],
    "counted from 241": lambda i: [(300.0, f"{240 + i}")],
    "a foreword": lambda i: [(300.0, ["i", "ii", "iii", "1", "2", "3"][i - 1])],
    "by chapters": lambda i: [(300.0, f"{1 + i // 4}-{i}")],
    "stamped": lambda i: [(500.0, f"ABC{120 + i:06}")],
    "both": lambda i: [(72.0, f"{i} \u2022 Terms of 2024"), (400.0, "Edition 3")],
}


@pytest.mark.parametrize("kind", HEADS)
def test_heads_with_page_numbers_are_left_out(kind: str) -> None:
    bodies = ["The ferry leaves.", "A ticket costs 5.", "Dogs are welcome.", "Eat at six.", "Be early.", "Swim not."]
    pages = [
        [*[(x, 780.0, text) for x, text in HEADS[kind](i)], *lines([body, f"{body[:6]} a", f"{body[:6]} b"])]
        for i, body in enumerate(bodies, start=1)
    ]
    wanted = " ".join(f"{body} {body[:6]} a {body[:6]} b" for body in bodies)
    assert text_of(*pages).replace("\n", " ") == wanted


@pytest.mark.parametrize(("angle", "rotation"), [(90, 0), (180, 0), (270, 0), (90, 90), (0, 90)])
def test_text_that_is_drawn_at_an_angle_is_read_upright(angle: int, rotation: int) -> None:
    """Wide tables are often drawn so, and shown on a page that is turned."""
    drawn = [*lines(LEFT), *lines(RIGHT, x=330.0)]
    text, page_map, _ = read_pdf(pdf(drawn, angle=angle, rotation=rotation), "a.pdf")
    assert text.split("\n") == [" ".join(LEFT), " ".join(RIGHT)]
    box = page_map.place(0).box
    assert box is not None
    assert box[0] < box[2]
    assert box[1] < box[3]


def test_what_is_filled_into_a_form_is_text(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(600, 800))
    canvas.drawString(72, 700, "Name:")
    canvas.acroForm.textfield(name="name", value="Jane Roe", x=110, y=695, width=200, height=20)
    canvas.save()
    assert read_document(tmp_path / "a.pdf").text == "Name: Jane Roe"


def test_a_scan_is_refused_with_the_way_to_its_text(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    canvas = Canvas(str(path))
    canvas.drawInlineImage(Image.new("L", (20, 20), 200), 50, 50)
    canvas.save()
    with pytest.raises(DataError, match=r"holds no text on its page, so it is a scan\. .* ocrmypdf INPUT\.pdf OUTPUT"):
        read_document(path)


def test_pages_without_text_are_said() -> None:
    text, _, notes = read_pdf(pdf(lines(["The ferry."]), [], [], lines(["Leaves."])), "a.pdf")
    assert text == "The ferry.\nLeaves."
    assert notes == ["2 of 4 pages hold no text (pages 2, 3). If they are scans, run ocrmypdf."]


def test_encrypted_and_damaged_files_are_refused() -> None:
    with pytest.raises(DataError, match=r"is encrypted with a password\. Remove the password, for instance with qpdf"):
        read_pdf(pdf(lines(["x"]), password="secret"), "a.pdf")
    text, _, _ = read_pdf(pdf(lines(["The ferry."]), owner="owner"), "a.pdf")
    assert text == "The ferry.", "printing may be forbidden where reading is not"
    for damaged in (b"%PDF-1.4\n", pdf(lines(["x"]))[:300]):
        with pytest.raises(DataError, match=r"'a\.pdf' is not a PDF that can be read\. The file is damaged"):
            read_pdf(damaged, "a.pdf")


boxes = st.tuples(
    st.integers(0, 560),
    st.integers(0, 780),
    st.integers(1, 300),
    st.integers(4, 30),
    st.text(string.ascii_letters, min_size=1),
)


@given(st.lists(boxes, max_size=40))
def test_no_piece_of_a_page_is_lost_or_read_twice(drawn: list[tuple[int, int, int, int, str]]) -> None:
    """Whatever the places, columns, rows and tables only order what is on the page."""
    pieces = [
        Piece(text, array("f", [x, y, x + w, y + h] * len(text)), x, y, x + w, y + h) for x, y, w, h, text in drawn
    ]
    found = read_page(pieces)
    assert sorted("".join(line.text.replace(" | ", "").replace(" ", "") for line in found)) == sorted(
        "".join(text for *_, text in drawn)
    )
    for line in found:
        assert len(line.boxes) == 4 * len(line.text)
