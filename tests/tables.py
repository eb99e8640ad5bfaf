"""Small delimited files with known columns, whole and damaged in the ways that real ones are."""

from dataclasses import dataclass

PEOPLE = [
    ["id", "name", "joined", "score", "comment"],
    *[
        [
            str(1000 + i),
            ("Ana Pérez", "Bo Lind", "Chen Wei", "Dmitri")[i % 4],
            f"2024-{1 + i % 12:02}-{1 + i % 28:02}",
            f"{i * 7 % 90}.{i % 10}",
            ("came late, but stayed", "would go again", "the room was cold; the staff kind", "no complaints")[i % 4],
        ]
        for i in range(40)
    ],
]
SALES = [
    ["Region", "Units", "Revenue", "Share"],
    *[
        [
            f"{('North', 'South', 'East', 'West')[i % 4]} {i}",
            str(i * 13 % 500),
            f"{i * 31 % 900}.{i % 100:02}",
            f"{i % 100}%",
        ]
        for i in range(30)
    ],
]
WORDS = [
    ["code", "country", "capital"],
    *[
        [f"{chr(65 + i)}{chr(90 - i)}", f"{('Upper', 'Lower', 'New')[i % 3]} Land{chr(97 + i)}", f"Town{chr(122 - i)}"]
        for i in range(20)
    ],
]
READINGS = [
    ["time", "sensor", "value"],
    *[[f"2023-05-{1 + i % 28:02} {i % 24:02}:{i * 7 % 60:02}:00", f"s{i % 5}", f"{i * 0.37:.2f}"] for i in range(60)],
]
TABLES = dict(people=PEOPLE, sales=SALES, words=WORDS, readings=READINGS)


@dataclass(frozen=True)
class Case:
    "A file and what it holds."

    name: str
    data: bytes
    header: list
    rows: list


def text(rows, sep=",", quote='"', end="\n", always=False, escape=""):
    "Rows as delimited text."

    def cell(o):
        if not always and not any(c in o for c in (sep, quote, "\n")):
            return o
        return f"{quote}{o.replace(quote, (escape or quote) + quote)}{quote}"

    return "".join(sep.join(map(cell, row)) + end for row in rows)


def with_decimal_commas(rows):
    return [rows[0], *([o.replace(".", ",") if o.replace(".", "").isdigit() else o for o in row] for row in rows[1:])]


def with_line_breaks(rows):
    return [rows[0], *([o.replace(" ", "\n", 1) if i % 3 == 0 else o for o in row] for i, row in enumerate(rows[1:]))]


def with_quotes(rows):
    return [rows[0], *([*row[:-1], f'he said "{row[-1]}", twice'] for row in rows[1:])]


def sound():
    "Files as programs write them."
    for name, rows in TABLES.items():
        for label, sep in dict(comma=",", semicolon=";", tab="\t", pipe="|").items():
            yield Case(f"{name}-{label}", text(rows, sep).encode(), rows[0], rows[1:])
        yield Case(f"{name}-all-quoted", text(rows, ",", always=True, end="\r\n").encode(), rows[0], rows[1:])
        yield Case(f"{name}-bom", text(rows, ";").encode("utf-8-sig"), rows[0], rows[1:])
    for name in ("people", "sales"):
        rows = with_decimal_commas(TABLES[name])
        yield Case(f"{name}-decimal-commas", text(rows, ";").encode(), rows[0], rows[1:])


def damages(rows):
    "(name, bytes, header, rows) of the ways in which files are damaged."
    header, body = rows[0], rows[1:]
    width, plain = len(header), text(rows)
    same = header, body
    yield "preamble", ("Report of the office, second edition\nprinted 2024-05-01\n\n" + plain).encode(), *same
    yield "padded preamble", text([["Report"] + [""] * (width - 1), [""] * width, *rows], ";").encode(), *same
    yield (
        "long preamble",
        ("".join(f"# line {i} of the licence, which is long\n" for i in range(12)) + plain).encode(),
        *same,
    )
    yield "footnote", (plain + "\nSource: the office, 2024\n* estimated\n").encode(), *same
    yield "padded footnote", text([*rows, ["Note: estimated"] + [""] * (width - 1)], ";").encode(), *same
    yield "preamble and footnote", ("Table 3\n\n" + text(rows, "\t") + "\nSource: the office\n").encode(), *same
    yield "separator line", ("sep=;\r\n" + text(rows, ";", end="\r\n")).encode(), *same
    units = ["", "", *["(unit)"] * (width - 2)]
    yield (
        "row of units",
        text([header, units, *body]).encode(),
        [f"{a} {b}".strip() for a, b in zip(header, units)],
        body,
    )
    top = ["", "", "Group", *[""] * (width - 3)]
    filled = ["", "", *["Group"] * (width - 2)]
    yield "grouped header", text([top, *rows]).encode(), [f"{b} {a}".strip() for a, b in zip(header, filled)], body
    for label, sep in dict(tilde="~", caret="^", colon=":", section="§", start="\x01", unit="\x1f").items():
        safe = [[o.replace(":", ".") for o in row] for row in rows]
        yield f"separator {label}", text(safe, sep).encode(), safe[0], safe[1:]
    spaced = [[o.replace(",", ";") for o in row] for row in rows]
    yield "spaces after commas", text(spaced, ", ").encode(), spaced[0], spaced[1:]
    quoted = with_quotes(rows)
    yield "doubled quotes", text(quoted).encode(), quoted[0], quoted[1:]
    yield "escaped quotes", text(quoted, escape="\\").encode(), quoted[0], quoted[1:]
    yield "single quotes", text(rows, quote="'", always=True).encode(), *same
    broken = with_line_breaks(rows)
    yield "line breaks in cells", text(broken).encode(), broken[0], broken[1:]
    stray = [header, *body]
    lines = [o for o in text(stray, ";").split("\n")]
    at = len(lines) // 2
    cells = lines[at].split(";")
    cells[1] = '"' + cells[1]
    yield "quote that never ends", "\n".join([*lines[:at], ";".join(cells), *lines[at + 1 :]]).encode(), *same
    ends = ["\r\n", "\n", "\r"]
    mixed = "".join(o + ends[i % 3] for i, o in enumerate(plain.split("\n")[:-1]))
    yield "mixed line ends", mixed.encode(), *same
    yield "old line ends", text(rows, ";", end="\r").encode(), *same
    short = [header, *(row[:-1] if i % 7 == 3 else row for i, row in enumerate(body))]
    yield "short rows", text(short).encode(), header, [[*row, ""][:width] for row in short[1:]]
    long = [header, *([*row, "extra"] if i % 9 == 4 else row for i, row in enumerate(body))]
    yield "long rows", text(long).encode(), *same
    yield "trailing separators", text([header, *([*row, ""] for row in body)], ";").encode(), *same
    yield (
        "row names",
        text([header, *([f"r{i}", *row] for i, row in enumerate(body))], "\t").encode(),
        ["", *header],
        [[f"r{i}", *row] for i, row in enumerate(body)],
    )
    yield "blank lines", plain.replace("\n", "\n\n").encode(), *same
    yield "no header", text(body, ";").encode(), [""] * width, body
    yield "duplicate headers", text([[header[0]] * width, *body]).encode(), [header[0]] * width, body
    yield "empty headers", text([[*header[:-1], ""], *body], ";").encode(), [*header[:-1], ""], body
    yield "utf-16", text(rows, "\t", end="\r\n").encode("utf-16"), *same
    yield "utf-16 without mark", text(rows, ";").encode("utf-16-le"), *same
    accents = [[o.replace("a", "é").replace("o", "ü") for o in row] for row in rows]
    yield "latin-1", text(accents, ";").encode("latin-1"), accents[0], accents[1:]
    yield "one broken byte", text(accents, ";").encode().replace(b"1", b"\xff1", 1), accents[0], None
    yield "cut in a cell", plain.encode()[:-4], header, None
    yield "outer pipes", "".join(f"| {' | '.join(row)} |\n" for row in rows).encode(), *same
    yield "comments inside", ("# made by hand\n" + plain.replace("\n", "\n# checked\n", 1)).encode(), *same
    yield "few rows", text(rows[:3], ";").encode(), header, body[:2]


def damaged():
    "Files as people leave them."
    for table, rows in TABLES.items():
        for name, data, header, body in damages(rows):
            yield Case(f"{table}: {name}", data, header, body)
