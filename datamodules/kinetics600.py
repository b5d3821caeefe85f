"""Kinetics-600 (Carreira et al. 2018): clips of 10 s from YouTube, of 600 classes of what people do, one a clip.

Official files, and Media: as of Kinetics-400. CVDF's README calls the lists of training and validation incomplete, and
has text files beside them. Public copies have 383,393 / 27,910 clips (mmaction2).
"""

from __future__ import annotations

from datamodules.boards import Board, Classification, and_linear
from datamodules.kinetics400 import Kinetics400


class Kinetics600(Kinetics400):
    name = "kinetics600"
    title = "Kinetics-600"
    citation = "Carreira, Noland, Banki-Horvath, Hillier, Zisserman. arXiv 1808.01340, 2018"
    holds = "about 480,000 clips of 10 s from YouTube, 600 classes of what people do, one a clip"
    folders = ("Kinetics-600", "kinetics600", "k600")
    number = 600
    boards = and_linear(
        Board("kinetics600", dataset="kinetics600", train="train", split="val", task=Classification(), main="top1")
    )
