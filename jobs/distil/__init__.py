"""Distillation: one network learns what an ensemble answers."""
