"""Time and memory of a scan of large files, beside pandas and DuckDB reading their first rows.

python benchmarks/scan.py MODEL FOLDER [GB] [MILLION_ROWS]

Makes a CSV file and a Parquet file in FOLDER, each reader gets a process of its own, and the files are deleted.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

READERS = {
    "datacloak-scan": "from datacloak_nb.scanning.scan import main; main([path, '--model', model, '--format', 'csv'])",
    "pandas, first 10,000": "import pandas as pd; pd.read_csv(path, nrows=10_000)",
    "DuckDB, first 10,000": "import duckdb; duckdb.sql(f\"SELECT * FROM '{path}' LIMIT 10000\").fetchall()",
}
MEASURED = """
import contextlib, io, re, sys, time
from pathlib import Path
path, model = sys.argv[1:]
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    {}
took = time.perf_counter() - began
# ru_maxrss would be at least what the parent had
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(f"{{took:.1f}} s, {{peak / 1024:.0f}} MB")
"""


def block(rows=100_000):
    "A table of five columns."
    import pandas as pd

    i = pd.Series(range(rows))
    word = (i * 7919 % 9973).astype(str)
    return pd.DataFrame(
        dict(
            id=i,
            day=pd.Timestamp("2020-01-01") + pd.to_timedelta(i % 2000, "D"),
            review="I would go there again, said guest " + word,
            amount=i * 37 % 1000 / 10,
            status=i.map(lambda o: ("open", "paid", "void")[o % 3]),
        )
    )


def write_csv(path, size):
    "A CSV file of `size` bytes or a little more."
    header, _, rows = block().to_csv(index=False).encode().partition(b"\n")
    with open(path, "wb") as f:
        f.write(header + b"\n")
        for _ in range(-(-size // len(rows))):
            f.write(rows)


def write_parquet(path, rows):
    "A Parquet file of so many rows, a million to a group."
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(block(1_000_000))
    with pq.ParquetWriter(path, table.schema, compression="zstd") as f:
        for _ in range(rows // 1_000_000):
            f.write_table(table, row_group_size=1_000_000)


def measure(path, model):
    "Print what each reader took."
    print(f"{path.name}, {path.stat().st_size / 1e9:.1f} GB")
    for name, code in READERS.items():
        if "pandas" in name and path.suffix == ".parquet":
            continue  # it cannot read some rows of a Parquet file
        done = subprocess.run(
            [sys.executable, "-c", MEASURED.format(code), path, model], capture_output=True, text=True
        )
        print(f"  {name:22}", done.stdout.strip() or done.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    model, folder, gb, millions = (*sys.argv[1:], *("5", "100")[len(sys.argv) - 3 :])
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for name, write, size in (("a.csv", write_csv, 10**9), ("a.parquet", write_parquet, 10**6)):
            write(path := Path(made, name), int(float(gb if name == "a.csv" else millions) * size))
            measure(path, model)
            path.unlink()
