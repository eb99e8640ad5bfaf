"""What a stranger's file holds is found in spite of its damage, and none of it is told that was not asked for."""

import csv
import io
import random

import pytest
import tables

from datacloak_nb.scanning.delimited import find_delimited, find_encoding


def found_whole(case):
    "Whether a case is read as what it holds; rows are not compared where the damage takes some."
    layout = find_delimited(case.data.decode(find_encoding(case.data), "replace").lstrip("\ufeff"))[0]
    return layout.header == case.header and case.rows in (None, layout.rows)


@pytest.mark.parametrize("make, least", [(tables.sound, 1), (tables.damaged, 0.97)])
def test_the_right_columns_are_found(make, least):
    cases = list(make())
    wrong = [o.name for o in cases if not found_whole(o)]
    assert 1 - len(wrong) / len(cases) >= least, wrong


def letters(longest, separator, quoting, header):
    "A table of 120 letters of up to that many lines, which quote others and hold tables of their own."
    rng, words = random.Random(0), "the parcel came late again, and when I called you, nobody knew why".split()
    text = lambda n: " ".join(rng.choices(words, k=n))
    body = lambda: "\n".join(text(rng.randint(0, 12)) for _ in range(rng.randint(1, longest)))
    more = '\nYou said "soon", but: ""never""\na,b,c\n1,2,3'
    rows = [[str(i), text(4), body() + more * (i % 2), rng.choice(["open", "closed"])] for i in range(120)]
    stream, names = io.StringIO(), [["id", "title", "letter", "state"]] * header
    csv.writer(stream, delimiter=separator, quoting=quoting).writerows(names + rows)
    return stream.getvalue(), rows


@pytest.mark.parametrize("longest", [5, 40, 300])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("header", [True, False])
def test_cells_of_many_lines_are_not_taken_for_rows(longest, separator, quoting, header):
    text, rows = letters(longest, separator, quoting, header)
    layout = find_delimited(text)[0]
    assert layout.named == header and [len(o) for o in layout.rows] == [4] * 120
    assert [o[::3] for o in layout.rows] == [o[::3] for o in rows]
