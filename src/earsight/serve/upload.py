"""Taking an upload: one file of a form, into a file without a name, within limits."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from earsight.serve.limits import RefusedError, UploadLimits

FIELD = "file"
"""Name of the form's only field."""

_FORM_BYTES = 4096
"""What a form may hold besides its file: boundaries and the headers of one part."""

_NAME = 120


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that has arrived; it has no name on disk, and is gone once it is closed.

    Attributes:
        file: at its beginning.
        name: as the browser told it: to be shown, not to be opened.
    """

    file: IO[bytes]
    name: str


class Door:
    """Lets so many uploads in at a time."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._inside = 0

    @asynccontextmanager
    async def upload(self, request: Request) -> AsyncIterator[Upload]:
        """The file of a request's form.

        Raises:
            RefusedError: the form is another, too large or too slow, there are too many, or the
                disk for temporary files is full.
        """
        boundary = _checked(request, self._limits)
        if self._inside >= self._limits.at_once:
            raise RefusedError(
                429, "Other files are being looked at; try again.", {"Retry-After": "2"}
            )
        self._inside += 1
        arrived = False
        try:
            with tempfile.TemporaryFile(prefix="earsight-") as file:
                form = _Form(boundary, file, self._limits)
                await _receive(request, form, self._limits)
                file.seek(0)
                arrived = True
                yield Upload(file=file, name=form.name)
        except OSError as error:
            if arrived:
                raise
            raise RefusedError(413, "This machine has no room for the file.") from error
        finally:
            self._inside -= 1


def _checked(request: Request, limits: UploadLimits) -> bytes:
    """The boundary of a form that may be read; nothing of it has been."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise RefusedError(415, "Send a form (multipart/form-data) with one file.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise RefusedError(400, "The length of the form is no number.")
    if int(declared) > limits.size + _FORM_BYTES:
        raise _too_large(limits)
    return options[b"boundary"]


def _too_large(limits: UploadLimits) -> RefusedError:
    return RefusedError(
        413,
        f"The file is larger than the limit of {limits.size / 2**20:g} MB; "
        "cut out the part to search with.",
    )


async def _receive(request: Request, form: "_Form", limits: UploadLimits) -> None:
    slow = RefusedError(408, f"The file did not arrive within {limits.seconds:g} s.")
    end = time.monotonic() + limits.seconds
    chunks = request.stream()
    try:
        while not form.whole:
            chunk = await asyncio.wait_for(anext(chunks, None), end - time.monotonic())
            if chunk is None:
                raise RefusedError(400, "The form ends before its file does.")
            form.write(chunk)
    except TimeoutError as error:
        raise slow from error
    except ClientDisconnect as error:
        raise RefusedError(400, "The connection ended before the file did.") from error


class _Form:
    """Reads a form of one file; whatever else it holds is refused."""

    def __init__(self, boundary: bytes, file: IO[bytes], limits: UploadLimits) -> None:
        self.name = ""
        self.whole = False
        self._file = file
        self._limits = limits
        self._read = 0
        self._written = 0
        self._parts = 0
        self._header = [b"", b""]
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise self._bad(error) from error

    def write(self, chunk: bytes) -> None:
        """Go on with what has arrived."""
        self._read += len(chunk)
        if self._read > self._limits.size + _FORM_BYTES:
            raise _too_large(self._limits)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise self._bad(error) from error

    def _bad(self, error: Exception) -> RefusedError:
        return RefusedError(400, f"The form cannot be read: {error}.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise RefusedError(400, "The form holds more than one file; send them one by one.")

    def _add(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _header_end(self) -> None:
        field, value = self._header
        self._header = [b"", b""]
        if field.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        if options.get(b"name") == FIELD.encode() and b"filename" in options:
            self.name = options[b"filename"].decode(errors="replace")[-_NAME:] or "a file"

    def _headers_end(self) -> None:
        if not self.name:
            raise RefusedError(400, f"The form has no file in its field {FIELD!r}.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._written += end - start
        if self._written > self._limits.size:
            raise _too_large(self._limits)
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self.whole = True
