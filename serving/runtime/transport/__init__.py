"""How requests arrive and answers leave: HTTP/1.1 on asyncio, gRPC on grpc.aio."""
