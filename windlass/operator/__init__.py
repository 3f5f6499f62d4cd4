"""The operator: releases (and retrain policies) on a cluster, from custom resources.

A composition like `windlass.local`, of the same engine: it watches custom resources, gives each model a release
controller, and carries out what that decides through the edges in `serving.release.cluster`. Here is what a cluster
adds: who watches and who leads, one turn at a time for a model, evidence from Prometheus, status, events and
finalizers.
"""
