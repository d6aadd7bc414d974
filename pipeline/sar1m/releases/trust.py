"""Whose a release is: its manifest's digest or its signature, compared with what the user trusts already.

A manifest covers every byte of a release, but anyone can make one. Two things bind it to somebody: its sha256, read
where the publisher states it (a paper, a DOI's page), or a signature of it. Signatures are those of OpenSSH
(ssh-keygen -Y sign and -Y verify, PROTOCOL.sshsig), so that nothing else is needed to check one:

    ssh-keygen -Y verify -f allowed_signers -I WHO -n sar1m-release -s manifest-sha256.txt.sig < manifest-sha256.txt
    sha256sum -c manifest-sha256.txt

The completion marker is not under the manifest. That the name and version in it are those of what was signed is seen
in the attributes of the Zarr groups, which are.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.releases.sample_parts import RELEASE_DIR
from sar1m.store.durable import write_durably
from sar1m.store.errors import ConfigError, MissingError, StoreError, UnreachableError, printable
from sar1m.store.places.place import Place
from sar1m.store.progress import Watch
from sar1m.store.schema import MANIFEST_FILE, SIGNATURE_FILE, SPLITS, group_name
from sar1m.store.seal import Seal, StoreFault
from sar1m.store.seal_text import MAX_SEAL_BYTES, parse_object

ALLOWED_SIGNERS: Final = Path("~/.ssh/allowed_signers")
NAMESPACE: Final = "sar1m-release"
MAX_SIGNATURE_BYTES: Final = 2**16
_MAX_METADATA_BYTES: Final = 2**20
_WAIT_S: Final = 60
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the user knows of the publisher. Raises ConfigError for what cannot be used.

    manifest_sha256: of the release's manifest, hexadecimal. signer: a principal of allowed_signers, a file as in
    ssh-keygen(1), ALLOWED SIGNERS: `publisher@example.org namespaces="sar1m-release" ssh-ed25519 AAAA...`.
    """

    manifest_sha256: str | None = None
    signer: str | None = None
    allowed_signers: Path = ALLOWED_SIGNERS

    def __post_init__(self) -> None:
        if self.manifest_sha256 is not None:
            object.__setattr__(self, "manifest_sha256", self.manifest_sha256.strip().lower())
            if not _SHA256.fullmatch(str(self.manifest_sha256)):
                raise ConfigError(f"sha256 {self.manifest_sha256!r}: expected 64 hexadecimal digits.")
        if self.signer is not None:
            _tool()
            if not self.allowed_signers.expanduser().is_file():
                raise ConfigError(
                    f"{self.allowed_signers}: no such file. Give --allowed-signers, or write the key there: "
                    f'{printable(self.signer)} namespaces="{NAMESPACE}" ssh-ed25519 AAAA...'
                )

    @property
    def words(self) -> str:
        """What holds where there is no fault; empty where nothing was asked."""
        digest = "" if self.manifest_sha256 is None else "its manifest is the one given"
        signed = "" if self.signer is None else f"signed by {printable(self.signer)}"
        return "; ".join(part for part in (signed, digest) if part)


NOBODY: Final = Trust()


def sign(release: Path, key: Path) -> None:
    """Writes manifest-sha256.txt.sig. key: of ssh-keygen, or its public half where an agent holds it.

    Raises ConfigError where ssh-keygen is missing or cannot use the key.
    """
    require_key(key)
    command = [_tool(), "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE]
    manifest = (release / MANIFEST_FILE).read_bytes()
    done = subprocess.run(command, input=manifest, capture_output=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"{key}: ssh-keygen does not sign with it: {_last_line(done.stderr)}. "
            f"{release} is not signed by it; the same command with another key signs it."
        )
    write_durably(release / SIGNATURE_FILE, [done.stdout])


def require_key(key: Path) -> None:
    """Raises ConfigError where ssh-keygen is missing or the key is no file."""
    _tool()
    if not key.is_file():
        raise ConfigError(f"{key}: no such file. Give a key that `ssh-keygen -t ed25519` made.")


def read_signature(place: Place, watch: Watch) -> bytes | None:
    """The signature beside a release's manifest; None where there is none, or none that the server gives out (some
    answer 403 for a file that is not there), which is noted."""
    try:
        return place.read(SIGNATURE_FILE, max_bytes=MAX_SIGNATURE_BYTES)
    except MissingError:
        return None
    except UnreachableError as error:
        watch.note(f"without its signature, if it has one: {error}")
        return None


def trust_faults(place: Place, seal: Seal, trust: Trust) -> Iterator[StoreFault]:
    """What of a release, or of a part of one, is not what the user trusts.

    Raises UnreachableError where a server does not answer.
    """
    if trust.manifest_sha256 is None and trust.signer is None:
        return
    folder = f"{RELEASE_DIR}/" if seal.part_of is not None else ""
    try:
        manifest = place.read(folder + MANIFEST_FILE, max_bytes=MAX_SEAL_BYTES)
        found = hashlib.sha256(manifest).hexdigest()
        if trust.manifest_sha256 not in (None, found):
            yield StoreFault(path=folder + MANIFEST_FILE, found=f"sha256 {found}, {trust.manifest_sha256} is trusted")
        if trust.signer is not None:
            signature = place.read(folder + SIGNATURE_FILE, max_bytes=MAX_SIGNATURE_BYTES)
            if (reason := _refusal(manifest, signature, trust)) is not None:
                yield StoreFault(path=folder + SIGNATURE_FILE, found=reason)
        yield from _other_names(place, seal)
    except MissingError as error:
        missing = SIGNATURE_FILE if SIGNATURE_FILE in str(error) else MANIFEST_FILE
        yield StoreFault(path=folder + missing, found="missing: the release is not signed")
    except UnreachableError:
        raise
    except StoreError as error:
        yield StoreFault(path=folder + MANIFEST_FILE, found=str(error))


def require_trusted(place: Place, seal: Seal, trust: Trust) -> None:
    """Raises StoreError naming the first of trust_faults."""
    for fault in trust_faults(place, seal, trust):
        raise StoreError(f"{place.location}/{fault.path}: {fault.found}. Nothing of it was taken; ask its publisher.")


def _refusal(manifest: bytes, signature: bytes, trust: Trust) -> str | None:
    """Why ssh-keygen does not take the signature for the signer's; None where it does."""
    with tempfile.TemporaryDirectory(prefix="sar1m-signature-") as folder:
        path = Path(folder) / "sig"
        path.write_bytes(signature)
        signers = str(trust.allowed_signers.expanduser())
        command = [_tool(), "-Y", "verify", "-f", signers, "-I", str(trust.signer), "-n", NAMESPACE, "-s", str(path)]
        done = subprocess.run(command, input=manifest, capture_output=True, check=False, timeout=_WAIT_S)
    if done.returncode == 0:
        return None
    return (
        f"not a signature of the manifest by {printable(str(trust.signer))}: {_last_line(done.stderr or done.stdout)}"
    )


def _other_names(place: Place, seal: Seal) -> Iterator[StoreFault]:
    """Where the marker calls the release otherwise than its arrays do."""
    for name in (f"{group_name(split)}/zarr.json" for split in SPLITS):
        sealed = seal.files.get(name)
        if sealed is None:
            continue
        content = place.read(name, max_bytes=_MAX_METADATA_BYTES)
        if hashlib.sha256(content).hexdigest() != sealed.sha256:
            yield StoreFault(path=name, found="content differs from its sha256")
            return
        try:
            attributes = parse_object(content).get("attributes")
        except ValueError as error:
            yield StoreFault(path=name, found=str(error))
            return
        found = attributes if isinstance(attributes, dict) else {}
        if any(found.get(key) != seal.marker.get(key) for key in ("name", "version")):
            yield StoreFault(
                path=seal.marker_file,
                found=f"says {seal.title}, its arrays {json.dumps([found.get('name'), found.get('version')])}",
            )
            return


def _tool() -> str:
    found = shutil.which("ssh-keygen")
    if found is None:
        raise ConfigError("signatures need ssh-keygen of OpenSSH 8.2 or later: apt-get install openssh-client.")
    return found


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1].rstrip(".")) if lines else "it gave no reason"
