"""Events as arrays: tensors with masks, jagged arrays kept flat, quarks of decays."""
