"""Neutrino reconstruction in tt̄ events with one or two leptons: classical methods and flows."""
