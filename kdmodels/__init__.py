"""Knowledge distillation in pure PyTorch, usable alone from a notebook."""

from kdmodels.compiled import name_folder

name_folder()  # before torch is imported, which else prepares a folder that anybody could have prepared
