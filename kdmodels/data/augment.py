"""Replayable augmentation: an image's view is a pure function of a seed, the image's number and the view's number.

Whole batches are computed at once, and no bit of an image depends on what else is in the batch: geometry copies the
nearest pixels, magnitudes are constants, sums are of whole numbers. torchvision's operations draw from global
randomness, take one magnitude a call, and round some sums as the size of the batch has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi, sin

import torch
from torch import Tensor

from kdmodels.data.dataset import Split
from kdmodels.randomness import uniforms
from kdmodels.views import Crop, CutMix, Flip, Jitter, Mixup, Operation, RandAugment, Strength


@dataclass(frozen=True)
class View:
    """One view of a split, which teacher and student alike are shown.

    Args:
        operations: in the order in which they are done.
        seed, number: from 0 on; another of either is another view.
    """

    split: Split
    operations: Sequence[Operation]
    seed: int
    number: int

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, rows: Tensor) -> Tensor:
        """The view's images of these rows, of any shape (...): (..., C, H, W), float32 in [0, 1]."""
        if not self.operations:
            return self.split.batch(rows)
        numbers = rows.flatten().cpu()  # (B,), so that draws are made on the CPU, whatever holds the pixels
        images = self._alone(numbers)
        mask = self._mask(numbers)
        if mask is not None:
            images = images * mask + self._alone(self._partners(numbers)) * (1 - mask)
        return images.unflatten(0, rows.shape)

    def mixed(self, rows: Tensor) -> dict[str, Tensor]:
        """What is mixed into the images of these rows (...); empty where nothing is.

        Returns:
            `labels` (...) of the images mixed in, and `share` (...) in [0, 1], which an image keeps of itself.
        """
        numbers = rows.flatten().cpu()
        mask = self._mask(numbers)
        if mask is None:
            return {}
        share = mask.sum(dim=(1, 2, 3)) * (1 / mask[0].numel())
        labels = self.split.labels[self._partners(numbers)]
        return {"labels": labels.view(rows.shape), "share": share.view(rows.shape)}

    def _alone(self, numbers: Tensor) -> Tensor:
        images = self.split.batch(numbers)
        for operation in self.operations:
            images = augment(images, numbers, operation, self.seed, self.number)
        return images

    def _partners(self, numbers: Tensor) -> Tensor:
        """The number of the image that is mixed into each, (B,)."""
        return _below(len(self.split), uniforms(numbers, 1, self.seed, "partner", self.number)[0])

    def _mask(self, numbers: Tensor) -> Tensor | None:
        """Which share of each pixel an image keeps of itself, (B, 1, 1, 1) or (B, 1, H, W); None: all of all."""
        device = self.split.pixels.device
        match self.operations[-1:]:
            case [Mixup(mixup=alpha)]:
                (draw,) = uniforms(numbers, 1, self.seed, "mixup", self.number)
                return _beta(alpha, draw).view(-1, 1, 1, 1).to(device)
            case [CutMix(cutmix=alpha)]:
                height, width = self.split.pixels.shape[-2:]
                draw, down, across = uniforms(numbers, 3, self.seed, "cutmix", self.number)
                side = (1 - _beta(alpha, draw)).sqrt()
                rows, columns = (_within(*given).to(device) for given in ((height, side, down), (width, side, across)))
                return (~(rows.unsqueeze(2) & columns.unsqueeze(1))).float().unsqueeze(1)
        return None


@dataclass(frozen=True)
class Augmentation:
    """Which view of the training images each epoch shows.

    Args:
        operations: in the order in which they are done.
        seed: the experiment's: all students are shown the same view in an epoch.
        views: how many there are; 0: every epoch has one of its own.
    """

    operations: Sequence[Operation] = ()
    seed: int = 0
    views: int = 0

    def view(self, split: Split, epoch: int) -> View:
        """What an epoch shows, the epochs being counted from 1."""
        views = self.views if self.operations else 1  # without operations all are the same
        return View(split, self.operations, self.seed, (epoch - 1) % views if views else epoch - 1)


NONE = Augmentation()


def augment(images: Tensor, numbers: Tensor, operation: Operation, seed: int, view: int) -> Tensor:
    """One operation on a batch; those that mix two images leave each as it is.

    Args:
        images: (B, C, H, W), float32 in [0, 1].
        numbers: (B,), the images' numbers in their split; on the CPU.

    Returns:
        (B, C, H, W).
    """
    match operation:
        case Jitter(jitter=reach):
            return _moved(images, reach, uniforms(numbers, 2, seed, "jitter", view))
        case Crop(crop=reach):  # padding and cutting out is moving
            return _moved(images, reach, uniforms(numbers, 2, seed, "crop", view))
        case Flip():
            flipped = (uniforms(numbers, 1, seed, "flip", view) < 0.5).to(images.device)
            return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
        case RandAugment(randaugment=strength):
            draws = uniforms(numbers, 2 * strength.operations, seed, "randaugment", view)
            return _randaugment(images, strength, draws)
    return images


def _below(count: int, draws: Tensor) -> Tensor:
    """Uniform whole numbers from 0 to count - 1."""
    return (draws * count).long()


def _beta(alpha: float, draws: Tensor) -> Tensor:
    """Beta(α, α) by the inverse of its distribution function; float32."""
    from scipy.special import betaincinv  # scipy takes 0.3 s to import

    return torch.from_numpy(betaincinv(alpha, alpha, draws.numpy())).float()


def _within(size: int, share: Tensor, centre: Tensor) -> Tensor:
    """Which of `size` pixels lie in an interval of that share of them around a uniform centre, cut at the ends."""
    half = (size * share / 2).long()
    middle, pixels = _below(size, centre), torch.arange(size)
    return (pixels >= (middle - half).unsqueeze(1)) & (pixels < (middle + half).unsqueeze(1))  # (B, size)


def _moved(images: Tensor, reach: int, draws: Tensor) -> Tensor:
    down, across = (_below(2 * reach + 1, draws) - reach).to(images.device).view(2, -1, 1, 1)
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    return _picked(images, rows.view(-1, 1) + down, columns + across)


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each pixel from a place of its own, black where that is outside; rows and columns broadcast to (B, H, W)."""
    count, channels, height, width = images.shape
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)  # (B, H, W)
    places = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).view(count, 1, -1)
    picked = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return picked.view_as(images).masked_fill(outside.unsqueeze(1), 0)


def _randaugment(images: Tensor, strength: Strength, draws: Tensor) -> Tensor:
    """Each image by operations of its own, drawn one after the other; each operation on all images that drew it."""
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
    """The operations that `randaugment` draws from, of a strength in [0, 1].

    The identity; shear, translation and rotation about the centre; brightness, contrast and, of colours, saturation;
    posterize; solarize. The strongest are those of Cubuk et al. 2020 as torchvision has them: shear by 0.3,
    translation by 150 / 331 of the side, 30 degrees, factors 1 ± 0.9, 4 bits, and a threshold of 0.

    Returns:
        Functions of images (B, C, H, W) in [0, 1] and of signs ±1 (B, 1, 1).
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
    """The pixel nearest to matrix · (x, y) about the centre, moved by shares of width and height; the sign turns it."""
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
    levels = (_grey(images) * 255).round().long().sum(dim=(1, 2, 3), keepdim=True)  # whole numbers: in any order
    return _blended(images, levels * (1 / (255 * images[0, 0].numel())), sign, factor)


def _saturation(images: Tensor, sign: Tensor, factor: float) -> Tensor:
    return _blended(images, _grey(images), sign, factor)


def _blended(images: Tensor, other: Tensor, sign: Tensor, factor: float) -> Tensor:
    """1 ± factor times what sets the images apart from the others, and the others."""
    return (other + (images - other) * (1 + sign * factor).unsqueeze(1)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W), by the weights of ITU-R 601."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _posterize(images: Tensor, sign: Tensor, levels: int) -> Tensor:
    """Of 256 levels those that are left when the lowest bits are cleared."""
    step = 256 // levels
    return ((images * 255).round() * (1 / step)).floor() * step * (1 / 255)
