from __future__ import annotations


class MlflowException(Exception):  # noqa: N818 - its name there
    def __init__(self, message: str, error_code: str) -> None:
        super().__init__(message)
        self.error_code = error_code
