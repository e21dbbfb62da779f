"""Event generation: from amplitudes to unweighted partons that a shower can take over."""
