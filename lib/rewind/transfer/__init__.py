"""Transfer functions of whole events: products of double Gaussians, and the learnt one."""
