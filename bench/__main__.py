"""`python -m bench`."""

from bench.cli import main

if __name__ == "__main__":  # the processes that check media import this module too
    raise SystemExit(main())
