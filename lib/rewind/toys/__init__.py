"""Small inverse problems whose answers are known exactly.

>>> import torch
>>> from rewind.toys import robot_arm
>>> arms, hands = robot_arm.simulate(5, torch.Generator().manual_seed(1), noise=0.02)
>>> arms.shape, hands.shape
(torch.Size([5, 4]), torch.Size([5, 2]))
"""

from rewind.toys import integrands, robot_arm, smeared_spectrum

__all__ = ["integrands", "robot_arm", "smeared_spectrum"]
