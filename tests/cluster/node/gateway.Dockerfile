# Envoy Gateway and the Envoy that it runs, in one image: from the Go module proxy and from the wheel that we use anyway.
FROM python:3.11.13-slim-bookworm
COPY bin/envoy bin/envoy-gateway /usr/local/bin/
USER 65532
ENTRYPOINT ["/usr/local/bin/envoy-gateway"]
