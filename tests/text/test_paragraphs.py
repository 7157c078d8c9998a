from wand.text.paragraphs import paragraphs


def test_lines_are_joined_and_headings_end():
    lines = ["CHAPTER ONE", "", "  It was late,", "and it rained. ", "", "", '"Why?"', "", "Then:"]
    assert list(paragraphs(lines)) == ["CHAPTER ONE. ", "It was late, and it rained. ", '"Why?" ', "Then: "]


def test_no_lines_no_paragraphs():
    assert list(paragraphs(["", " ", ""])) == []
