"""The features of a request: read in Feast's own layout, replaced step by step where the store fails."""
