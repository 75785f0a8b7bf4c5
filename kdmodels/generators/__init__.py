"""Generative networks: a variational autoencoder (VAE), a generative adversarial network (GAN), and a generator that
learns from a classifier alone."""
