"""What runs a model: one module, and one importer, for each library."""
