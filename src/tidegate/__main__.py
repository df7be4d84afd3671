"""`python -m tidegate` is the command `tidegate`."""

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported is here to stay; looking for garbage in it takes a tenth of the start
    from tidegate.cli import main

    gc.enable()
    main()
