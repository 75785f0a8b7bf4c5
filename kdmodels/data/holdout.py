"""Selection of the examples that are held out. The selection depends on the labels and pixels, never on a seed.

Experiments with the same source and the same settings therefore have the same splits. If the source grows, its examples
stay in their splits, except for a few examples at the boundary between two splits.
"""

import numpy as np


def hold_out(labels: np.ndarray, prints: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the kept and the held-out examples, stratified by class.

    The examples of each class are sorted by fingerprint, which is a hash of the pixels. The first examples are held
    out. Equal images of a class are therefore all kept or all held out, except at the boundary of the two groups.

    If both the test and the validation split are held out, the test split comes first in the sorted order, then the
    validation split, then the training split. If the source grows, the boundary of the test split moves slightly. An
    example can then move from the validation split to the test split. Training examples are not at this boundary, so an
    earlier champion is not tested on its training examples.

    Args:
        labels: The labels of the examples, (N,). Each class that occurs has at least two examples.
        prints: The fingerprints (hashes) of the images, (N, 2).
        count: The number of examples to hold out, within `bounds(labels)`.

    Returns:
        Sorted indices of the kept examples, (N - count,), and of the held-out examples, (count,). Each class has kept
        and held-out examples.
    """
    order = np.lexsort((prints[:, 0], labels))
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    shares = _shares(sizes, count)
    held = np.sort(np.concatenate([order[at : at + share] for at, share in zip(first, shares, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), held), held


def inner_split(labels: np.ndarray, prints: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split the training examples into two parts for a hyperparameter search.

    The search trains on the first part and chooses hyperparameters on the second part. The search does not use the
    validation split, which is kept for the comparison of variants.

    `hold_out` selects the second part. All unlabelled examples belong to the first part. If a class has only one
    example, this example also belongs to the first part.

    Args:
        labels: The labels of the training examples, (N,). -1 marks an unknown label.
        prints: The first half of each image's fingerprint (hash), (N,).
        share: The size of the second part as a share of the labelled examples, above 0 and below 1.

    Returns:
        Sorted indices of the first part and of the second part. If no class has two examples, the second part is empty.
    """
    counts = np.bincount(labels[labels >= 0], minlength=1)
    rows = np.flatnonzero((labels >= 0) & (counts[labels] >= 2))
    held = rows[:0]
    if len(rows):
        least, most = bounds(labels[rows])
        count = min(max(least, round(share * len(rows))), most)
        held = rows[hold_out(labels[rows], prints[rows, None], count)[1]]
    return np.setdiff1d(np.arange(len(labels)), held), held


def bounds(labels: np.ndarray) -> tuple[int, int]:
    """Return the smallest and the largest number of examples that `hold_out` can hold out.

    At least one example of each class must be held out, and at least one must be kept.
    """
    classes = len(np.unique(labels))
    return classes, len(labels) - classes


def fold_numbers(labels: np.ndarray, prints: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold number of each example, (N,), counted from 0. Each class is spread evenly over the folds.

    Equal images of a class are in the same fold, except at the boundary between two folds.

    Args:
        labels: The labels of the examples, (N,). Each class that occurs has at least `folds` examples.
        prints: The fingerprints (hashes) of the images, (N, 2).
        folds: The number of folds.
    """
    order = np.lexsort((prints[:, 0], labels))
    _, sizes = np.unique(labels[order], return_counts=True)
    numbers = np.empty(len(labels), dtype=np.int64)
    numbers[order] = np.concatenate([np.arange(size) * folds // size for size in sizes])
    return numbers


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return the number of examples to hold out of each class, (K,).

    The numbers are nearly proportional to the sizes of the classes. At least one example of each class is held out, and
    at least one is kept.

    Args:
        sizes: The number of examples of each class, (K,), at least 2.
        count: The sum of the returned numbers.
    """
    exact = sizes * (count / sizes.sum())
    shares = np.clip(np.round(exact), 1, sizes - 1).astype(int)
    while rest := count - shares.sum():
        step = np.sign(rest)
        is_possible = (shares + step >= 1) & (shares + step < sizes)
        shares[np.argmax(np.where(is_possible, (exact - shares) * step, -np.inf))] += step
    return shares
