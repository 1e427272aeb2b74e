"""Image-text-to-text models of transformers, through their own processor and chat template."""
