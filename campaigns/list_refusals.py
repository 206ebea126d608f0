"""The file of refused rows: line, value and reason, then the row's own cells, so that it can be mended and imported.

It is written beside its name and takes that name only when the import is a fact. Like every file that a spreadsheet
may open it holds no formulas.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import structlog

from campaigns.list_columns import REFUSAL_COLUMNS
from campaigns.list_rows import Refusal
from dialer.errors import InputRefusedError
from dialer.text_table import safe_cell

log = structlog.get_logger()


class RefusedRows:
    """Keeps the refused rows of the list `path`, in `target` or in FILE.refused.csv beside it."""

    def __init__(self, path: Path, target: Path | None, header: Sequence[str], *, keep: bool) -> None:
        self._given = target is not None
        self._target = target or path.with_name(path.name + ".refused.csv")
        self._unfinished = self._target.with_name(self._target.name + ".part")
        self._header = header
        self._keep = keep
        self._file: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        if self._keep and self._target.is_dir():
            raise InputRefusedError(f"--refused {self._target}: it is a folder; name a file. Nothing was added")
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._unfinished.unlink(missing_ok=True)

    def add(self, refused: Sequence[Refusal]) -> None:
        """Keep these too. Raises InputRefusedError when the file cannot be written."""
        if not refused or not self._keep:
            return
        try:
            if self._file is None:
                self._file = self._unfinished.open("w", newline="", encoding="utf-8-sig")
                self._writer = csv.writer(self._file)
                self._writer.writerow([*REFUSAL_COLUMNS, *map(safe_cell, self._header)])
            for each in refused:
                row = [each.line, each.value, each.reason, *each.cells]
                self._writer.writerow([safe_cell(cell) for cell in row])
        except OSError as error:
            raise self._cannot(error) from None

    def finish(self) -> Path | None:
        """Give the file its name, when there is one; an older one of that name is gone.

        The import is a fact by now: a file that cannot get its name keeps the one it has, which is told.
        """
        if not self._keep:
            return None
        file, self._file = self._file, None
        try:
            if file is None:
                if not self._given:
                    self._target.unlink(missing_ok=True)  # it told of an earlier import of this list
                return None
            file.close()
            os.replace(self._unfinished, self._target)
        except OSError as error:
            log.warning("refused_rows_not_renamed", file=str(self._unfinished), error=str(error))
            return self._unfinished if file is not None else None
        return self._target

    def _cannot(self, error: OSError) -> InputRefusedError:
        return InputRefusedError(
            f"the refused rows cannot be written to {self._target}: {error.strerror}; name a place for them with"
            " --refused FILE; nothing was added"
        )
