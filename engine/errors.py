"""One hierarchy of errors. A message names the thing, what was expected, what was found, and what to do next."""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error a user can act on; jobs print its message alone and exit with 2."""


class ConfigError(EngineError):
    """A config file, key or value is wrong."""


class MissingInput(EngineError):
    """A path that the config names does not exist."""


class LicensedFileMissing(MissingInput):
    """A file that only the user can supply (SMPL, VPoser) is not where the config says."""


class UnsafeInput(EngineError):
    """A file wants something a data file must not have: code, an absolute path, an absurd size."""


class RawDataError(EngineError):
    """A raw dataset's annotation contradicts its layout."""


class ShardCorrupt(EngineError):
    """A shard's bytes are not those of its manifest."""


class SampleRejected(EngineError):
    """One sample or instance cannot be used. Goes to quarantine with `reason`; nothing else is lost."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, self.args[0])


class CheckpointMismatch(EngineError):
    """A checkpoint does not fit the model, body or prior it is loaded into."""


class StorageError(EngineError):
    """The store did not do what was asked."""


class AlreadyExists(StorageError):
    """Create-only write to a key that is taken."""


class CommitConflict(StorageError):
    """Somebody else committed different bytes under the same name."""


class ReleaseError(EngineError):
    """A release is missing, broken, or of another kind than asked for."""
