"""Generative networks: a variational autoencoder (VAE) and a generative adversarial network (GAN)."""
