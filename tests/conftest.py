"""What several tests share."""

from pathlib import Path

#: A cell that no archived file may hold: it is not a word of any language and survives every text format unescaped.
CANARY = "canaryQ7X9ZWcell"


def files_holding(folder, text=CANARY):
    "The files below `folder` that hold `text`, as UTF-8 or UTF-16."
    marks = [text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")]
    files = [p for p in Path(folder).rglob("*") if p.is_file()]
    return sorted(p for p in files if any(mark in p.read_bytes() for mark in marks))
