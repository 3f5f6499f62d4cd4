"""The real engine on a virtual clock, before a router, a metrics source and an API that fail on purpose."""
