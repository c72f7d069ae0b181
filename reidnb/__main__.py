"`python -m reidnb` is the command `reidnb`."

from reidnb.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
