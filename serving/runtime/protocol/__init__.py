"""What a message says: KServe's V1, the Open Inference Protocol V2 in its encodings, and their description."""
