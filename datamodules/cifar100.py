"""CIFAR-100 (Krizhevsky 2009): pictures of 32 x 32 pixels, 100 classes, one a picture.

Official files, of `cifar-100-binary.tar.gz`: `cifar-100-binary/fine_label_names.txt` (classes, in the order of their
numbers), `train.bin` and `test.bin`: records of the numbers of the superclass (of 20) and the class, and the picture,
1,024 bytes each of red, green and blue. Media: the same files; a picture is read where it lies.

The superclasses (`coarse_label_names.txt`) are not read. Nor is the python version, see `cifar10.py`.
"""

from __future__ import annotations

from typing import ClassVar

from datamodules.cifar10 import CIFAR
from datamodules.picture_sets import picture_boards, with_held_out


class CIFAR100(CIFAR):
    name = "cifar100"
    title = "CIFAR-100"
    citation = "Krizhevsky. Technical report, University of Toronto, 2009"
    holds = "60,000 pictures of 32 x 32 pixels, 100 classes, one a picture"
    url = "https://www.cs.toronto.edu/~kriz/cifar.html"
    folders = ("CIFAR-100", "cifar100", "cifar-100-binary")
    splits, nested = with_held_out("train", "test")
    sizes: ClassVar = {"train": 50000, "fit": 49000, "held_out": 1000, "test": 10000}
    boards = picture_boards("cifar100", "train", "test")
    archive = "cifar-100-binary.tar.gz"
    names_file = "fine_label_names.txt"
    train_files = ("train.bin",)
    test_file = "test.bin"
    label_bytes = 2
