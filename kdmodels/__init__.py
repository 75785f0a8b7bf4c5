"""Knowledge distillation in pure PyTorch, usable alone from a notebook."""
