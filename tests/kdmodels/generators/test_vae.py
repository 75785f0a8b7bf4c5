"""The VAE's closed-form terms against Monte Carlo, finite differences and an exactly solvable model."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from kdmodels.generators.vae import (
    Posterior,
    Vae,
    elbo_parts,
    importance_weighted_bound,
    kl_from_standard_normal,
    reconstruction_error,
)

SHAPE = (1, 3, 2)


@pytest.fixture
def vae() -> Vae:
    torch.manual_seed(0)
    return Vae(SHAPE, [5], 2).double()


def test_the_kl_divergence_equals_its_monte_carlo_estimate() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(3, 4).double(), torch.randn(3, 4).double())
    of_codes = Normal(posterior.mean, (posterior.log_variance / 2).exp())
    codes = of_codes.sample((200_000,))
    differences = (of_codes.log_prob(codes) - Normal(0, 1).log_prob(codes)).sum(dim=2)
    error = differences.std(dim=0) / len(codes) ** 0.5
    assert ((kl_from_standard_normal(posterior) - differences.mean(dim=0)).abs() < 4 * error).all()


def test_the_reconstruction_error_is_the_negative_log_likelihood_of_the_pixels() -> None:
    torch.manual_seed(0)
    logits, images = torch.randn(3, *SHAPE), torch.rand(3, *SHAPE).round()
    expected = -Bernoulli(logits=logits).log_prob(images).flatten(1).sum(dim=1)
    torch.testing.assert_close(reconstruction_error(logits, images), expected)


def test_the_gradients_of_the_elbo_equal_finite_differences(vae: Vae) -> None:
    images, noise = torch.rand(4, *SHAPE).double(), torch.randn(4, 2).double()
    parameters = [parameter.detach().clone().requires_grad_() for parameter in vae.parameters()]
    names = [name for name, _ in vae.named_parameters()]

    class Elbo(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = vae

        def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return elbo_parts(self.vae, images, noise).elbo

    def elbo(*values: torch.Tensor) -> torch.Tensor:
        state = {f"vae.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Elbo(), state, (images, noise))

    assert torch.autograd.gradcheck(elbo, parameters)


def test_more_samples_give_a_tighter_bound_of_the_log_likelihood(vae: Vae) -> None:
    """The log-likelihood itself is an integral over two dimensions, which a fine grid gives nearly exactly."""
    images = torch.rand(3, *SHAPE).double()
    axis = torch.linspace(-7, 7, 281, dtype=torch.float64)
    codes = torch.cartesian_prod(axis, axis)
    log_prior = Normal(0, 1).log_prob(codes).sum(dim=1)
    with torch.no_grad():
        logits = vae.decode(codes)
        for image in images:
            likelihoods = -reconstruction_error(logits, image.expand(len(codes), *SHAPE))
            exact = torch.logsumexp(likelihoods + log_prior, dim=0) + 2 * torch.log(axis[1] - axis[0])
            noise = torch.Generator().manual_seed(0)
            many = image.expand(500, *SHAPE)
            bounds = [importance_weighted_bound(vae, many, noise, samples=count).mean() for count in (1, 50)]
            elbo = elbo_parts(vae, many, torch.randn(500, 2, generator=noise).double()).elbo.mean()
            assert bounds[0] < bounds[1] <= exact + 1e-3
            torch.testing.assert_close(bounds[1], exact, atol=0.03, rtol=0)
            torch.testing.assert_close(bounds[0], elbo, atol=0.15, rtol=0)


def test_images_are_probabilities_and_a_class_changes_them() -> None:
    torch.manual_seed(0)
    vae = Vae(SHAPE, [5], 2, classes=3)
    codes = torch.randn(4, 2)
    images = [vae(codes, torch.full((4,), label)) for label in (0, 1)]
    assert images[0].shape == (4, *SHAPE)
    assert ((images[0] > 0) & (images[0] < 1)).all()
    assert not torch.allclose(*images)
    with pytest.raises(ValueError, match="a conditional network needs a label for each example"):
        vae(codes)
