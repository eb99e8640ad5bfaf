"""What a stranger's file holds is found in spite of its damage, and none of it is told that was not asked for."""

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
