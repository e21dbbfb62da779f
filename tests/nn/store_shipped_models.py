"""Write the reference of ``test_shipped_models.py``: ``python tests/nn/store_shipped_models.py [NAMES]``.

Run it for a model that was trained anew, and name it: what is stored of the others stays as it is.
"""

import argparse
import json

from safetensors.torch import save_file


def main():
    """Write the file."""
    from test_shipped_models import OUTPUTS, REFERENCE, digests, outputs, stored

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="checkpoints, without ending; all by default")
    names = parser.parse_args().names or list(OUTPUTS)
    kept = {name: (outputs(name), digests(name)) if name in names else stored(name) for name in OUTPUTS}
    values = {f"{name}/{key}": tensor for name, (tensors, _) in kept.items() for key, tensor in tensors.items()}
    about = {name: digest for name, (_, digest) in kept.items()}
    save_file(values, REFERENCE, metadata={"digests": json.dumps(about, sort_keys=True)})


if __name__ == "__main__":
    main()
