# A redis for online features: the server of the wheel that the tests use anyway.
FROM python:3.11.13-slim-bookworm
COPY bin/redis-server /usr/local/bin/
USER 65532
CMD ["redis-server"]
