"""What is said of each fault."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """What a fault did. Good when every fault injected was survived and nothing was lost or duplicated."""

    fault: str
    injected: int
    survived: int
    lost: int = 0
    duplicated: int = 0
    note: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.injected > 0 and self.survived == self.injected and self.lost == self.duplicated == 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"good": self.good}
