# What holds the namespaces of a Pod together: it sleeps, and is killed when the Pod ends.
FROM python:3.11.13-slim-bookworm
USER 65535
ENTRYPOINT ["/bin/sleep", "infinity"]
