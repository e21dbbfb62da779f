"""The partons behind jets: assignment, regression, and the unfolding flow."""
