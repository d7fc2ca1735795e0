"""`python -m cxr_cft`: the command line, for launchers that start modules (`torchrun -m cxr_cft train …`)."""

from cxr_cft.cli.main import main

if __name__ == "__main__":
    main()
