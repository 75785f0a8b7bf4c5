"""Repeatable augmentation. A view of a split holds one augmented version of each image.

In a given split, an augmented image depends only on the operations, the seed, the image's index and the view's number.

A whole batch is augmented at once, but an augmented image is bit-identical in every batch that contains the image. To
achieve this, geometric operations copy the nearest pixels, magnitudes are constants, and sums are over integers.

torchvision's operations do not have this property. They draw from the global random state and take one magnitude per
call, and the rounding of some of their sums depends on the size of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi, sin

import torch
from scipy.special import betaincinv
from torch import Tensor

from kdmodels.data.own_augmentation import augment_by_user
from kdmodels.data.split import Split
from kdmodels.experiment.augmentation import Crop, CutMix, Flip, Jitter, Mixup, Operation, Own, RandAugment, Strength
from kdmodels.randomness import uniforms


@dataclass(frozen=True)
class View:
    """A view of a split: one augmented version of each image. The teacher and the student get the same view.

    Views with different seeds or numbers have different augmented images.

    Args:
        split: The split.
        operations: Augmentations, in the order in which they are applied.
        seed: The seed of the random draws, 0 or more.
        number: The number of the view, counted from 0.
    """

    split: Split
    operations: Sequence[Operation]
    seed: int
    number: int

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, rows: Tensor) -> Tensor:
        """Return augmented images as float32 in [0, 1], (..., C, H, W). `rows` holds the examples' indices, (...)."""
        if not self.operations:
            return self.split.batch(rows)
        numbers = rows.flatten().cpu()  # (B,); random draws use the CPU, even if the pixels are on another device
        images = self._alone(numbers)
        mask = self.mask(numbers)
        if mask is not None:
            images = images * mask + self._alone(self.partners(numbers)) * (1 - mask)
        return images.unflatten(0, rows.shape)

    def mixed(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the label of the partner, and the weight of the original, for each image that mixup or CutMix mixes.

        Args:
            rows: The indices of the examples, (...).

        Returns:
            Two tensors of shape (...), by name. `labels` holds the label of each image's partner. `share` holds the
            weight of the original image in each mixed image, in [0, 1]. If the view mixes no images, the result is
            empty.
        """
        numbers = rows.flatten().cpu()
        mask = self.mask(numbers)
        if mask is None:
            return {}
        share = mask.sum(dim=(1, 2, 3)) * (1 / mask[0].numel())
        labels = self.split.labels[self.partners(numbers)]
        return {"labels": labels.view(rows.shape), "share": share.view(rows.shape)}

    def _alone(self, numbers: Tensor) -> Tensor:
        """Return the images with these indices after all operations except mixup and CutMix, (B, C, H, W)."""
        images = self.split.batch(numbers)
        for operation in self.operations:
            images = augment(images, numbers, operation, self.seed, self.number)
        return images

    def partners(self, numbers: Tensor) -> Tensor:
        """Return the index of each image's partner, (B,). Mixup or CutMix mixes the partner into the image.

        Args:
            numbers: The indices of the images, (B,), on the CPU.
        """
        return _below(len(self.split), uniforms(numbers, 1, self.seed, "partner", self.number)[0])

    def mask(self, numbers: Tensor) -> Tensor | None:
        """Return the weight of each image's own pixels in the mixed image. The partner's weight is 1 minus this weight.

        Args:
            numbers: The indices of the images, (B,), on the CPU.

        Returns:
            Weights of shape (B, 1, 1, 1) for mixup, or (B, 1, H, W) for CutMix. `None` if the view mixes no images.
        """
        device = self.split.pixels.device
        match self.operations[-1:]:
            case [Mixup(mixup=alpha)]:
                (draw,) = uniforms(numbers, 1, self.seed, "mixup", self.number)
                return _beta(alpha, draw).view(-1, 1, 1, 1).to(device)
            case [CutMix(cutmix=alpha)]:
                height, width = self.split.pixels.shape[-2:]
                draw, down, across = uniforms(numbers, 3, self.seed, "cutmix", self.number)
                side = (1 - _beta(alpha, draw)).sqrt()
                rows, columns = (
                    _within(*interval).to(device) for interval in ((height, side, down), (width, side, across))
                )
                return (~(rows.unsqueeze(2) & columns.unsqueeze(1))).float().unsqueeze(1)
        return None


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of the training images. Each epoch uses one view: one augmented version of each image.

    Args:
        operations: Augmentations, in the order in which they are applied.
        seed: The experiment's seed, which is the same for all students. In an epoch, all students get the same view.
        views: The number of different views. The epochs use them in turn. If 0, every epoch has a new view.
    """

    operations: Sequence[Operation] = ()
    seed: int = 0
    views: int = 0

    def view(self, split: Split, epoch: int) -> View:
        """Return the view of the training images for an epoch. Epochs are counted from 1."""
        views = self.views if self.operations else 1  # without operations, all views are equal
        return View(split, self.operations, self.seed, (epoch - 1) % views if views else epoch - 1)


NONE = Augmentation()


def augment(images: Tensor, numbers: Tensor, operation: Operation, seed: int, view: int) -> Tensor:
    """Apply one operation to a batch. Mixup and CutMix are ignored here, because `View.batch` applies them.

    Args:
        images: Images, (B, C, H, W) float32 in [0, 1].
        numbers: The indices of the images in their split, (B,), on the CPU.
        operation: The operation.
        seed: The seed of the random draws.
        view: The number of the view.

    Returns:
        Images, (B, C, H, W).
    """
    match operation:
        case Jitter(jitter=reach):
            return _moved(images, reach, uniforms(numbers, 2, seed, "jitter", view))
        case Crop(crop=reach):  # padding and then cropping an image translates the image
            return _moved(images, reach, uniforms(numbers, 2, seed, "crop", view))
        case Flip():
            flipped = (uniforms(numbers, 1, seed, "flip", view) < 0.5).to(images.device)
            return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        case RandAugment(randaugment=strength):
            draws = uniforms(numbers, 2 * strength.operations, seed, "randaugment", view)
            return _randaugment(images, strength, draws)
        case Own(own=function):
            return augment_by_user(images, numbers, function, seed, view)
    return images


def _below(count: int, draws: Tensor) -> Tensor:
    """Convert random draws in [0, 1) to uniform integers from 0 to count - 1."""
    return (draws * count).long()


def _beta(alpha: float, draws: Tensor) -> Tensor:
    """Convert random draws in [0, 1) to float32 samples of Beta(α, α), using the inverse distribution function."""
    return torch.from_numpy(betaincinv(alpha, alpha, draws.numpy())).float()


def _within(size: int, share: Tensor, centre: Tensor) -> Tensor:
    """Return a mask of the pixels along an image side that lie in an interval with a random centre.

    The interval is clipped at both ends of the side.

    Args:
        size: The number of pixels of the side.
        share: The length of the interval divided by `size`, (B,).
        centre: Random draws in [0, 1) that set the centre, (B,).

    Returns:
        A mask that is True for each pixel in the interval, (B, size) bool.
    """
    half = (size * share / 2).long()
    middle, pixels = _below(size, centre), torch.arange(size)
    return (pixels >= (middle - half).unsqueeze(1)) & (pixels < (middle + half).unsqueeze(1))  # (B, size)


def _moved(images: Tensor, reach: int, draws: Tensor) -> Tensor:
    """Shift each image by a random offset of up to `reach` pixels per axis. Fill uncovered pixels with black.

    Args:
        images: Images, (B, C, H, W).
        reach: The largest offset, in pixels.
        draws: Random draws in [0, 1), (2, B): one draw for the vertical and one for the horizontal offset.
    """
    down, across = (_below(2 * reach + 1, draws) - reach).to(images.device).view(2, -1, 1, 1)
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    return _picked(images, rows.view(-1, 1) + down, columns + across)


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (B, C, H, W) whose pixels are copied from other positions of the same images.

    A position outside the image gives a black pixel.

    Args:
        images: Images, (B, C, H, W).
        rows, columns: The position from which each pixel is copied. Both broadcast to (B, H, W).
    """
    count, channels, height, width = images.shape
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)  # (B, H, W)
    places = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).view(count, 1, -1)
    picked = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return picked.view_as(images).masked_fill(outside.unsqueeze(1), 0)


def _randaugment(images: Tensor, strength: Strength, draws: Tensor) -> Tensor:
    """Apply `strength.operations` randomly drawn operations to each image, one after the other.

    Args:
        images: Images, (B, C, H, W).
        strength: The number and the magnitude of the operations.
        draws: Random draws in [0, 1), (2 * operations, B). Each operation needs one draw for its kind and one for its
            sign.
    """
    images = images.clone()
    for choices, signs in draws.view(-1, 2, len(images)):
        kinds = transformations(images.shape[1], strength.magnitude / 30)
        chosen = _below(len(kinds), choices)
        for kind, transformation in enumerate(kinds):
            (drawn,) = (chosen == kind).nonzero(as_tuple=True)
            if len(drawn):
                sign = torch.where(signs[drawn] < 0.5, -1.0, 1.0).view(-1, 1, 1)
                images[drawn] = transformation(images[drawn], sign.to(images.device))
    return images


def transformations(channels: int, strength: float) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """Return the operations from which RandAugment draws, for a strength in [0, 1].

    The operations and magnitudes are those of torchvision. At strength 1, they are:

    - identity
    - shear by 0.3, along each axis
    - translation by 150 / 331 of the side, along each axis
    - rotation about the centre by 30 degrees
    - brightness, contrast and, for colour images, saturation, by a factor of 1 ± 0.9
    - posterize: reduction to 4 bits per channel
    - solarize: inversion of the pixels at or above a threshold of 0, that is, of all pixels

    Returns:
        Functions of two arguments: images (B, C, H, W) in [0, 1], and a sign for each image, ±1, (B, 1, 1). The sign
        reverses the direction of a shear, translation or rotation, or selects the + or - in 1 ± 0.9.

    References:
        Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space".
    """
    angle, factor = strength * pi / 6, 0.9 * strength
    colours = [_saturation] if channels == 3 else []
    return [
        lambda images, sign: images,
        partial(_affine, matrix=((1, 0.3 * strength), (0, 1))),
        partial(_affine, matrix=((1, 0), (0.3 * strength, 1))),
        partial(_affine, move=(150 / 331 * strength, 0)),
        partial(_affine, move=(0, 150 / 331 * strength)),
        partial(_affine, matrix=((cos(angle), sin(angle)), (-sin(angle), cos(angle)))),
        *(partial(blend, factor=factor) for blend in (_brightness, _contrast, *colours)),
        partial(_posterize, levels=2 ** (8 - round(4 * strength))),
        lambda images, sign: torch.where(images >= 1 - strength, 1 - images, images),
    ]


def _affine(
    images: Tensor,
    sign: Tensor,
    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1, 0), (0, 1)),
    move: tuple[float, float] = (0, 0),
) -> Tensor:
    """Transform images by an affine map of pixel coordinates.

    The pixel at (x, y) is copied from the pixel nearest to matrix · (x, y) + translation. The origin of the coordinates
    is the centre of the image.

    Args:
        images: Images, (B, C, H, W).
        sign: The sign of each image's operation, ±1, (B, 1, 1). The off-diagonal entries of the matrix and the
            translation are multiplied by this sign.
        matrix: The two rows of the matrix. The first row gives x, and the second row gives y.
        move: The translation in x as a share of the width, and in y as a share of the height.
    """
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    (same_x, from_y), (from_x, same_y) = matrix
    columns = same_x * x + sign * (from_y * y + int(move[0] * width)) + (width - 1) / 2  # (B, H, W)
    rows = same_y * y + sign * (from_x * x + int(move[1] * height)) + (height - 1) / 2
    return _picked(images, rows.round().long(), columns.round().long())


def _brightness(images: Tensor, sign: Tensor, factor: float) -> Tensor:
    return _blended(images, torch.zeros_like(images), sign, factor)


def _contrast(images: Tensor, sign: Tensor, factor: float) -> Tensor:
    # The values are integers, so the order of summation does not affect the sum.
    levels = (_grey(images) * 255).round().long().sum(dim=(1, 2, 3), keepdim=True)
    return _blended(images, levels * (1 / (255 * images[0, 0].numel())), sign, factor)


def _saturation(images: Tensor, sign: Tensor, factor: float) -> Tensor:
    return _blended(images, _grey(images), sign, factor)


def _blended(images: Tensor, other: Tensor, sign: Tensor, factor: float) -> Tensor:
    """Return other + (images - other) * (1 ± factor), clipped to [0, 1]. `sign` holds each image's sign, (B, 1, 1)."""
    return (other + (images - other) * (1 + sign * factor).unsqueeze(1)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Convert images to grey, (B, 1, H, W). The weights of the colours are those of ITU-R BT.601."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _posterize(images: Tensor, sign: Tensor, levels: int) -> Tensor:
    """Round each pixel down to the nearest of `levels` equally spaced values.

    Args:
        images: Images, (B, C, H, W) in [0, 1].
        sign: Not used. All operations of RandAugment have the same arguments.
        levels: The number of values, a power of 2 up to 256.
    """
    step = 256 // levels
    return ((images * 255).round() * (1 / step)).floor() * step * (1 / 255)
