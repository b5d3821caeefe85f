"""Kinetics-700, release of 2020 (Smaira et al.): clips of 10 s from YouTube, of 700 classes of what people do.

Official files, and Media: as of Kinetics-400; the folder of CVDF is `k700-2020`. Public copies of the first release
have 542,357 / 34,824 clips (mmaction2). Much of Kinetics-400's validation split is in the training split of this one:
what is pretrained on it must not be measured there, or without the ids that both have.
"""

from __future__ import annotations

from datamodules.boards import Board, Classification
from datamodules.kinetics400 import Kinetics400


class Kinetics700(Kinetics400):
    name = "kinetics700"
    title = "Kinetics-700"
    citation = "Smaira, Carreira, Noland, Clancy, Wu, Zisserman. arXiv 2010.10864, 2020"
    holds = "about 650,000 clips of 10 s from YouTube, 700 classes of what people do, one a clip"
    folders = ("Kinetics-700", "kinetics700", "k700", "k700-2020")
    number = 700
    boards = (
        Board("kinetics700", dataset="kinetics700", train="train", split="val", task=Classification(), main="top1"),
    )
