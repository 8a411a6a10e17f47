"""Base of every record that is written to a store: strict, frozen, canonical in bytes, with a digest.

Canonical JSON (sorted keys, no spaces, UTF-8, no NaN) makes equal records equal bytes, so a digest names a content.
"""

from __future__ import annotations

import hashlib
import json
from mmap import mmap
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
"""Made once: `json.dumps` would make one a call, a third of what a small record costs."""


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value. ValueError on NaN and infinities."""
    return _ENCODER.encode(value).encode()


def sha256_hex(data: bytes | mmap | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


class Record(BaseModel):
    """A frozen pydantic model: unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises pydantic.ValidationError (a ValueError) when the bytes are not this record."""
        return cls.model_validate_json(data)

    def digest(self) -> str:
        """sha256 of the canonical bytes, without the fields named in `undigested`."""
        return sha256_hex(canonical_json(self.model_dump(mode="json", exclude=self.undigested())))

    @classmethod
    def undigested(cls) -> set[str]:
        """Fields that say when and where, not what."""
        return set()
