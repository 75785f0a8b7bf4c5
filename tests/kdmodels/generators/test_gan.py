"""The GAN's losses against binary cross entropy, and its networks' outputs."""

import torch
from torch.nn.functional import binary_cross_entropy

from kdmodels.generators.gan import Discriminator, ImageGenerator, discriminator_loss, generator_loss
from kdmodels.generators.layers import perceptron

SHAPE = (1, 3, 2)


def test_the_losses_are_binary_cross_entropies_of_the_probabilities() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(5).double(), torch.randn(5).double()
    ones, zeros = torch.ones(5).double(), torch.zeros(5).double()
    of_real, of_fake = torch.sigmoid(real), torch.sigmoid(fake)
    expected = binary_cross_entropy(of_real, ones) + binary_cross_entropy(of_fake, zeros)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), binary_cross_entropy(of_fake, ones))


def test_the_generator_has_a_gradient_if_the_discriminator_is_sure() -> None:
    logits = torch.tensor([-50.0], requires_grad=True)
    generator_loss(logits).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0]))


def test_images_are_in_0_to_1_and_black_is_minus_1_for_the_layers() -> None:
    torch.manual_seed(0)
    images = ImageGenerator(SHAPE, perceptron([4, 5, 6]), 4)(10 * torch.randn(6, 4))
    assert images.shape == (6, *SHAPE)
    assert ((images >= 0) & (images <= 1)).all()
    discriminator = Discriminator(SHAPE, [5]).eval()
    assert discriminator(images).shape == (6,)
    expected = discriminator.layers(torch.full((1, 6), -1.0)).squeeze(1)
    torch.testing.assert_close(discriminator(torch.zeros(1, *SHAPE)), expected)


def test_the_class_is_an_input_of_both_networks() -> None:
    torch.manual_seed(0)
    generator = ImageGenerator(SHAPE, perceptron([4 + 3, 5, 6]), 4, classes=3)
    discriminator = Discriminator(SHAPE, [5], classes=3)
    codes = torch.randn(2, 4)
    first, second = (generator(codes, torch.full((2,), label)) for label in (0, 2))
    assert not torch.allclose(first, second)
    logits = [discriminator(first, torch.full((2,), label)) for label in (0, 2)]
    assert not torch.allclose(*logits)


def test_dropout_is_only_in_the_discriminator_if_it_is_asked_for() -> None:
    def has_dropout(network: torch.nn.Module) -> bool:
        return any(isinstance(module, torch.nn.Dropout) for module in network.modules())

    assert has_dropout(Discriminator(SHAPE, [5], dropout=0.3))
    assert not has_dropout(Discriminator(SHAPE, [5]))
