"""Keys, and the signature of what is published."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import airgap
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components import bundle, signing
from serving.runtime.trust.verify import Policy, verify
from windlass.errors import UsageError
from windlass.settings import Settings

PRIVATE = "PRIVATE " + "KEY"  # in two parts: a check of ours looks for keys in files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", project=tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A bundle without a version, with a folder inside."""
    folder = tmp_path / "source"
    (folder / "fallback").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"\x08\x0amodel")
    (folder / "fallback" / "model.txt").write_text("tree\n")
    (folder / "serving.json").write_text('{"model": "m"}')
    return folder


def write_pair(folder: Path, password: bytes | None = None) -> dict[str, str]:
    """Key files as a cluster mounts them, and the variables that name them."""
    key = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    (folder / "tls.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return {signing.SIGNING_KEY: str(folder / "tls.key"), signing.VERIFY_KEY: str(folder / "tls.pub")}


def test_the_first_call_makes_the_homes_keys(settings: Settings) -> None:
    """Verify that the private key is its owner's alone, and that the second call finds the same pair."""
    pair = signing.keys(settings, {})
    assert pair.private == settings.home / "keys" / "signing.pem"
    assert pair.public == settings.home / "keys" / "verify.pem"
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
    content = pair.private.read_bytes()
    assert content.startswith(f"-----BEGIN {PRIVATE}-----".encode())
    key = serialization.load_pem_private_key(content, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
    assert key.public_key() == serialization.load_pem_public_key(pair.public.read_bytes())
    assert signing.keys(settings, {}) == pair
    assert pair.private.read_bytes() == content
    assert [p.name for p in settings.home.iterdir()] == ["keys"]


def test_two_first_registrations_agree_on_the_keys(settings: Settings) -> None:
    """Verify that of many that find no key all go on with the same one, and nothing is left over."""
    code = (
        "import sys; from pathlib import Path; from components import signing; from windlass.settings import Settings\n"
        "home = Path(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "import cryptography.hazmat.primitives.asymmetric.ec\n"
        "print(signing.keys(Settings(home, home), {}).private.read_text())"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(settings.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(len(racers)) as threads:
        found = {out for out, _ in threads.map(lambda r: r.communicate("\n"), racers)}
    assert len(found) == 1
    assert f"BEGIN {PRIVATE}" in found.pop()
    assert [p.name for p in settings.home.iterdir()] == ["keys"]


def test_keys_made_by_another_meanwhile_are_taken(settings: Settings) -> None:
    """Verify that whoever comes second does not replace the pair that the first signs with."""
    pair = signing.keys(settings, {})
    before = pair.public.read_bytes()
    signing._make(settings.home / "keys")
    assert pair.public.read_bytes() == before
    assert [p.name for p in settings.home.iterdir()] == ["keys"]


def test_the_environment_names_a_clusters_keys(settings: Settings, source: Path, tmp_path: Path) -> None:
    """Verify that a mounted, encrypted key signs, and the home gets no keys of its own."""
    environ = write_pair(tmp_path / "secret", b"open sesame")
    with pytest.raises(UsageError, match=f"cannot read the keys .*{signing.PASSWORD} is needed"):
        signing.sign(source, signing.keys(settings, environ))
    wrong = signing.keys(settings, {**environ, signing.PASSWORD: "open barley"})
    with pytest.raises(UsageError, match="cannot read the keys") as refusal:
        signing.sign(source, wrong)
    assert "barley" not in str(refusal.value) + repr(wrong)
    pair = signing.keys(settings, {**environ, signing.PASSWORD: "open sesame"})
    signing.sign(source, pair)
    assert verify(source, Policy(verify_key=pair.public)).signed
    assert not settings.home.exists()


def test_a_pod_finds_its_keys_where_they_are_mounted(
    settings: Settings, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verify a pipeline's pod: both keys of the Secret, the public one alone, and none, in that order."""
    made, mounted = signing.keys(settings), tmp_path / "mounted"
    mounted.mkdir()
    monkeypatch.setattr(signing, "MOUNTED", mounted)
    pod = Settings(home=tmp_path / "pod", project=settings.project)
    (mounted / "verify.pem").write_bytes(made.public.read_bytes())
    assert signing.keys(pod, {}).private is None
    assert made.private is not None
    (mounted / "signing.pem").write_bytes(made.private.read_bytes())
    signing.sign(source, signing.keys(pod, {}))
    signing.verify(source, made.public, name="the pod's")
    assert not (pod.home / "keys").exists()
    # what the environment names goes first
    assert signing.keys(pod, {"WINDLASS_VERIFY_KEY": str(made.public)}).public == made.public.resolve()


def test_who_may_only_verify_cannot_sign(settings: Settings, source: Path, tmp_path: Path) -> None:
    """Verify that the public key alone is enough to check and never enough to sign."""
    environ = write_pair(tmp_path / "secret")
    signing.sign(source, signing.keys(settings, environ))
    del environ[signing.SIGNING_KEY]
    reader = signing.keys(settings, environ)
    signing.verify(source, reader.public, name="source")
    with pytest.raises(UsageError, match=f"{signing.VERIFY_KEY} is set and {signing.SIGNING_KEY} is not"):
        signing.sign(source, reader)


def test_keys_that_do_not_belong_together_are_refused(
    settings: Settings, source: Path, tmp_path: Path
) -> None:
    """Verify that nothing is published that its own server would refuse."""
    first, second = write_pair(tmp_path / "one"), write_pair(tmp_path / "two")
    mixed = signing.keys(settings, {**first, signing.VERIFY_KEY: second[signing.VERIFY_KEY]})
    with pytest.raises(UsageError, match="is not the public key of"):
        bundle.publish(settings.bundles_dir, "m", "1", source, mixed)
    assert list((settings.bundles_dir / "m").iterdir()) == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({signing.SIGNING_KEY: "a.pem"}, f"{signing.VERIFY_KEY} is not", id="half-of-a-pair"),
        pytest.param({signing.VERIFY_KEY: "gone.pem"}, "gone.pem is missing", id="no-such-file"),
    ],
)
def test_keys_that_are_not_there_are_named(settings: Settings, environ: dict[str, str], message: str) -> None:
    """Verify that no other key is taken in the place of one that was named."""
    with pytest.raises(UsageError, match=message):
        signing.keys(settings, environ)


def test_who_only_verifies_makes_no_pair(settings: Settings, tmp_path: Path) -> None:
    """Verify what is said of no key and of one that is gone, and that of a home's pair the public half is taken."""
    with pytest.raises(UsageError, match=r"nobody says by which key .* windlass-verify-key"):
        signing.reader(settings, {})
    assert not settings.home.exists()
    with pytest.raises(UsageError, match=r"gone\.pem is missing; bring it back, or name another file"):
        signing.reader(settings, {signing.VERIFY_KEY: str(tmp_path / "gone.pem")})
    pair = signing.keys(settings, {})
    assert signing.reader(settings, {}) == signing.Keys(pair.public, None)


def test_a_lost_half_of_the_homes_pair_is_named(settings: Settings) -> None:
    """Verify that a home with half a pair does not get a new one, under which its versions would not hold."""
    pair = signing.keys(settings, {})
    pair.public.unlink()
    with pytest.raises(UsageError, match=r"verify\.pem is missing; bring it back"):
        signing.keys(settings, {})


def test_what_is_published_is_signed_with_its_version(settings: Settings, source: Path) -> None:
    """Verify that the signature covers the version and every folder, whenever it is published again."""
    pair = signing.keys(settings, {})
    for version in ("7", "7"):
        place = bundle.publish(settings.bundles_dir, "m", version, source, pair)
    report = verify(place, Policy(verify_key=pair.public, require_signature=True))
    assert report.files.keys() == {"serving.json", "model.onnx", "fallback/model.txt"}
    assert json.loads(report.read(Path("serving.json")))["version"] == "7"
    assert [p.name for p in (settings.bundles_dir / "m").iterdir()] == ["7"]
    assert not (source / "model.sig").exists()


def test_a_copy_gets_a_signature_of_its_own(settings: Settings, source: Path) -> None:
    """Verify that a signed bundle is signed again under its new version, once it was found whole."""
    pair = signing.keys(settings, {})
    first = bundle.publish(settings.bundles_dir, "m", "1", source, pair)
    second = bundle.publish(settings.bundles_dir, "m", "2", first, pair)
    assert verify(second, Policy(verify_key=pair.public)).signed
    (first / "model.onnx").write_bytes(b"\x08\x0aother")
    with pytest.raises(UsageError, match=rf"the signature of {first} does not hold .* for 'model\.onnx'"):
        bundle.publish(settings.bundles_dir, "m", "3", first, pair)
    assert sorted(p.name for p in (settings.bundles_dir / "m").iterdir()) == ["1", "2"]


def test_what_comes_back_keeps_its_signature(settings: Settings, source: Path, tmp_path: Path) -> None:
    """Verify that a bundle from shared artifacts is checked with its registrant's key and not signed again."""
    registrant = signing.keys(settings, write_pair(tmp_path / "secret"))
    there = bundle.publish(tmp_path / "artifacts", "m", "1", source, registrant)
    here = bundle.restore(settings.bundles_dir, "m", "1", there, signing.Keys(registrant.public, None))
    assert (here / "model.sig").read_bytes() == (there / "model.sig").read_bytes()
    assert verify(here, Policy(verify_key=registrant.public)).signed


def strip(folder: Path) -> None:
    (folder / "model.sig").unlink()


def swap(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"\x08\x0aother")


def sign_as_another(folder: Path) -> None:
    home = folder.parent / "stranger"
    signing.sign(folder, signing.keys(Settings(home, home), {}))


def put_older(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "1", folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(strip, "does not hold .*: .*No such file", id="signature-removed"),
        pytest.param(swap, r"of model 'm' version '2' .* for 'model\.onnx'; name", id="file-changed"),
        pytest.param(sign_as_another, "name the key of who registered", id="signed-by-another"),
        pytest.param(put_older, r"hold the bundle of \('m', '1'\)", id="an-older-version"),
    ],
)
def test_what_was_tampered_with_does_not_come_back(
    settings: Settings, source: Path, tmp_path: Path, change: Any, message: str
) -> None:
    """Verify that whoever may write to the shared artifacts gets no bundle into a home by it."""
    pair = signing.keys(settings, {})
    for version in ("1", "2"):
        there = bundle.publish(tmp_path / "artifacts", "m", version, source, pair)
    change(there)
    with pytest.raises(UsageError, match=message):
        bundle.restore(settings.bundles_dir, "m", "2", there, pair)
    assert list((settings.bundles_dir / "m").iterdir()) == []


def test_no_signature_needs_the_network(tmp_path: Path, source: Path) -> None:
    """Verify that keys, signature, verification and the bundle's return stay on the machine."""
    code = (
        "import sys; from pathlib import Path; from components import bundle, signing\n"
        "from windlass.settings import Settings\n"
        "home, source = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "pair = signing.keys(Settings(home, home), {})\n"
        "place = bundle.publish(home / 'a', 'm', '1', source, pair)\n"
        "print(bundle.restore(home / 'b', 'm', '1', place, pair) / 'model.sig')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "home"), str(source)]
    env = {**os.environ, "HOME": str(tmp_path)}
    watched = airgap.watch(command, env=env, cwd=Path(bundle.__file__).parents[1], timeout=120)
    assert watched.returncode == 0, watched.stderr
    assert Path(watched.stdout.strip()).is_file()
    assert watched.strangers == []
