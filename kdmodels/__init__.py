"""Knowledge distillation in pure PyTorch. This package also works without the rest of kdflow, e.g. in a notebook."""

from kdmodels.files.torch_cache import name_folder

name_folder()  # must run before torch is imported; otherwise, torch uses a folder that other users can write to
