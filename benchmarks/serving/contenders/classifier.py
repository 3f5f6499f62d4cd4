"""What every contender runs: one ONNX file, one thread, rows in and scores out."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

NAME = "classifier"


def arguments() -> argparse.Namespace:
    """Read the command line that all servers of the comparison share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--scratch", type=Path, help="a folder of this server's own")
    parser.add_argument("--store", type=Path, help="a Feast repository")
    return parser.parse_args()


class Classifier:
    """The model; called with float32 [N, F] it returns float32 [N]."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._run(["probability"], {"features": rows})[0]
        return scores
