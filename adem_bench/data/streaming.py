"""JSON files read value by value: memory holds one row at a time, however long the file is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from adem_bench.data.reading import broken, missing
from adem_bench.files import open_text, text_encoding
from adem_bench.schemas import DataSource

CHUNK = 2**20
MAX_ROW_LENGTH = 64 * 2**20
"""Characters of one row: more is a broken file, and would fill the memory."""
BLANKS = " \t\n\r"


def array_items(path: Path, key: str, what: str, source: DataSource) -> Iterator[Any]:
    """Yield the items of an array: of the whole file's, or of the one below a top-level key.

    Args:
        path: The file.
        key: Name of the array in the file's object; empty if the file is the array.
        what: What the file should hold, in words, for messages.
        source: Where the data is to be had, for messages.

    Raises:
        DataError: the file is missing, unreadable, not JSON or without that array.
    """
    with _opened(path, what, source) as stream:
        if key and not stream.enter(key):
            raise ValueError(f"no `{key}` in it")
        yield from stream.array()
        if not key:
            stream.end()


def object_items(path: Path, what: str, source: DataSource) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the file's object; arguments and errors are as above."""
    with _opened(path, what, source) as stream:
        for name in stream.names():
            yield name, stream.value()
        stream.end()


def lines(path: Path, what: str, source: DataSource) -> Iterator[Any]:
    """Yield the values of a file that has one a line; arguments and errors are as above."""
    with _opened(path, what, source) as stream:
        while stream.peek():
            yield stream.value()


@contextmanager
def _opened(path: Path, what: str, source: DataSource) -> Iterator[JsonStream]:
    """Open a stream, and name the file in whatever goes wrong while it is read."""
    try:
        with open_text(path, text_encoding(path)) as file:
            stream = JsonStream(file)
            stream.pass_marks()
            yield stream
    except FileNotFoundError as error:
        raise missing(path, what, source) from error
    except OSError as error:
        raise broken(path, what, f"cannot be read ({error})", source) from error
    except (ValueError, RecursionError) as error:
        raise broken(path, what, f"not such JSON ({error})", source) from error


class JsonStream:
    """A text file of JSON, decoded from front to back."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._place = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def pass_marks(self) -> None:
        """Go past byte order marks, of which a file that was marked twice has one left."""
        while self.peek() == "\ufeff":
            self._place += 1

    def enter(self, key: str) -> bool:
        """Go to the value of a name of the object that begins here; False if it has none."""
        for name in self.names():
            if name == key:
                return True
            self._skip()
        return False

    def names(self) -> Iterator[str]:
        """Yield the names of the object that begins here; each value is to be read in between.

        Raises:
            ValueError: it is not an object.
        """
        self._expect("{")
        has_more = self.peek() != "}"
        while has_more:
            name = self.value()
            if not isinstance(name, str):
                raise ValueError(f"expected a name, found {name!r:.60}")
            self._expect(":")
            yield name
            has_more = self._comma("}")
        self._expect("}")

    def array(self) -> Iterator[Any]:
        """Yield the items of the array that begins here."""
        self._expect("[")
        has_more = self.peek() != "]"
        while has_more:
            yield self.value()
            has_more = self._comma("]")
        self._expect("]")

    def end(self) -> None:
        """Refuse a file that goes on, as one does that was appended to.

        Raises:
            ValueError: it does.
        """
        if found := self.peek():
            raise ValueError(f"expected its end, found {found!r}")

    def peek(self) -> str:
        """Return the next character that is not a blank; nothing at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in BLANKS:
                self._place += 1
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._more()

    def value(self) -> Any:
        """Return the value that begins here.

        Raises:
            ValueError: it is not JSON, or longer than any row.
        """
        self.peek()
        while True:
            try:
                found, end = self._decode(self._text, self._place)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number may go on behind what was read, at its longest with `e+1`.
                if end + 3 <= len(self._text) or self._ended:
                    self._place = end
                    return found
            self._more()

    def _skip(self) -> None:
        if self.peek() == "[":
            for _ in self.array():
                pass
        else:
            self.value()

    def _expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise ValueError(f"expected {mark!r}, found {self.peek()!r}")
        self._place += 1

    def _comma(self, end: str) -> bool:
        """Go past a comma; return False at the end, which no comma stands before."""
        if self.peek() == end:
            return False
        self._expect(",")
        return True

    def _more(self) -> None:
        rest = self._text[self._place :]
        if len(rest) > MAX_ROW_LENGTH:
            raise ValueError(f"a row of more than {MAX_ROW_LENGTH} characters")
        # As much again as there is: a long row is decoded a few times, not a thousand.
        new = self._file.read(max(CHUNK, len(rest)))
        self._text, self._place, self._ended = rest + new, 0, not new
