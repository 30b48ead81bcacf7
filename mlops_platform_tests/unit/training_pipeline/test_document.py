"""Whatever a text holds, it stays text in both forms."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from mlops_platform.training_pipeline.document import (
    Block,
    Code,
    Heading,
    Items,
    Paragraph,
    Pictures,
    Table,
    as_html,
    as_markdown,
)

HOSTILE = '<script>alert("1")</script> `x` | *y* [z](http://evil) & $q$\n# w _v_ ends\\'


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "block",
    [
        Heading(HOSTILE),
        Paragraph(HOSTILE),
        Items([HOSTILE]),
        Table([HOSTILE], [["a"]]),
        Table(["a"], [[HOSTILE]]),
        Table(["a"], [[Code(HOSTILE)]]),
    ],
)
def test_html_holds_every_text_as_text(block: Block) -> None:
    page = Page(as_html("t", [block]))
    assert "script" not in page.tags
    assert "a" not in page.tags
    assert HOSTILE in page.text


def test_markdown_makes_every_mark_and_tag_inert() -> None:
    for block in (Paragraph(HOSTILE), Table([HOSTILE], [[Code(HOSTILE)]])):
        text = as_markdown("t", [block])
        assert "<script>" not in text
        assert r"\`x\` \| \*y\* \[z\](http://evil) &amp; \$q\$ \# w \_v\_ ends\\" in text
    assert as_markdown(HOSTILE, []).count("\n") == 1


def test_markdown_in_full() -> None:
    blocks: list[Block] = [
        Heading("Data"),
        Items(["churn_rate", "_created_at"]),
        Table(["name", "rows"], [[Code("c_1"), "1,000"]], numbers_from=1),
        Pictures({"roc": b"", "precision_recall": b""}),
    ]
    assert (
        as_markdown("A card", blocks)
        == r"""# A card

## Data

- churn_rate
- \_created_at

| name | rows |
| --- | ---: |
| `c_1` | 1,000 |

![roc](roc.png)
![precision recall](precision_recall.png)
"""
    )


def test_html_holds_its_pictures_and_allows_nothing_from_outside() -> None:
    page = Page(as_html("A card", [Pictures({"roc": b"\x89PNG"})]))
    assert ("src", "data:image/png;base64,iVBORw==") in page.attributes
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes
    assert "link" not in page.tags


def test_numbers_stand_to_the_right() -> None:
    page = as_html("t", [Table(["name", "rows"], [["a", "1"]], numbers_from=1)])
    assert '<tr><td>a</td><td class="number">1</td></tr>' in page
