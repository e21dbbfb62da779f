"""The forward chain: from Pythia's hard process to the detector."""
