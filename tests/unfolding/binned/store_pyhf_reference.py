"""Write the reference of ``test_pyhf_model.py`` by pyhf: ``python tests/unfolding/binned/store_pyhf_reference.py``."""

import json


def main():
    """Fit the example by pyhf and write its answer beside the workspace."""
    import pyhf
    from test_pyhf_model import REFERENCE, example, fitted_by_pyhf

    from rewind.unfolding.binned import workspace

    spec = workspace(**example())
    stored = {"generator": f"pyhf {pyhf.__version__}, numpy, MINUIT", "parameters": fitted_by_pyhf(spec)}
    REFERENCE.write_text(json.dumps(stored | {"workspace": spec}, indent=1) + "\n")


if __name__ == "__main__":
    main()
