"""The matrix element method: from jets to partons to likelihoods."""
