"""Entry point of the `windlass` command."""

import sys


def main() -> int:
    from windlass.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
