"""A guest book: POST a line to /, GET / reads them all. It keeps them in DATA."""

import os
import pathlib

from flask import Flask, request

app = Flask(__name__)
book = pathlib.Path(os.environ.get("DATA", "/tmp")) / "book.txt"


@app.get("/")
def read():
    return book.read_text() if book.exists() else "nobody has written yet\n"


@app.post("/")
def write():
    line = " ".join(request.get_data(as_text=True)[:200].split())
    with book.open("a") as pages:
        pages.write(f"{line}\n")
    return f"written: {line}\n"
