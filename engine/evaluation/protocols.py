"""Protocols by name, as a config says them."""

from __future__ import annotations

from typing import Literal

from engine.evaluation.protocol import Protocol
from engine.evaluation.protocol_3dhp import MpiInf3dhp
from engine.evaluation.protocol_3dpw import ThreeDpw
from engine.evaluation.protocol_human36m import Human36mP2
from engine.evaluation.protocol_mupots import Mupots

ProtocolName = Literal["3dpw", "mupots", "human36m-p2", "3dhp"]
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (ThreeDpw(), Mupots(), Human36mP2(), MpiInf3dhp())}
