"""The messages of the gRPC protocols, from descriptors that lie beside this file.

`messages.binpb` is compiled from the .proto files beside it:

    cd serving/runtime/protocol
    python -m grpc_tools.protoc -I . --descriptor_set_out=messages.binpb inference.proto health.proto

They live in a pool of their own: KServe's and Triton's packages both register the names of the same protocol in the
default one, with other fields, and only one of them can be in a process.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

DESCRIPTORS = "messages.binpb"


def load() -> dict[str, Any]:
    """Return the message classes by their full names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    content = resources.files(__package__).joinpath(DESCRIPTORS).read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(content).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return dict(message_factory.GetMessageClassesForFiles([file.name for file in files], pool))


def decode_error() -> type[Exception]:
    """What a message class raises at bytes that are no such message."""
    from google.protobuf.message import DecodeError

    error: type[Exception] = DecodeError
    return error
