"""The compiled descriptors, and the pool that they are loaded into."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool

from serving.runtime.protocol import messages

PLACE = resources.files("serving.runtime.protocol")


def test_the_descriptors_are_compiled_from_the_files_beside_them(tmp_path: Path) -> None:
    """Verify that what is loaded is what the .proto files say (else: the command in `messages`)."""
    out = tmp_path / messages.DESCRIPTORS
    command = ["-I", str(PLACE), f"--descriptor_set_out={out}", "inference.proto", "health.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *command], check=True)
    assert out.read_bytes() == PLACE.joinpath(messages.DESCRIPTORS).read_bytes()


def test_another_package_may_own_the_same_names() -> None:
    """Verify that a client's definition of the protocol can be in the process, with other fields than ours."""
    theirs = descriptor_pb2.FileDescriptorProto(name="theirs.proto", package="inference", syntax="proto3")
    theirs.message_type.add(name="RepositoryModelRequest")
    descriptor_pool.Default().Add(theirs)
    ours = messages.load()["inference.RepositoryModelRequest"](triton_model_name="flights")
    assert ours.SerializeToString() == b"\x12\x07flights"
    found = descriptor_pool.Default().FindMessageTypeByName("inference.RepositoryModelRequest")
    assert list(found.fields) == []
