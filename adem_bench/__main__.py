"""`python -m adem_bench`, the form that `torchrun -m adem_bench run …` needs."""

from adem_bench.cli import main

if __name__ == "__main__":
    main()
