"""XKD: cross-modal knowledge distillation with domain alignment."""
