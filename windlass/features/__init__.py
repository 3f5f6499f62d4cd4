"""Features: computed hourly from the source, kept offline by month, served online, the same values in both."""
