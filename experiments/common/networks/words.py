"""Word ids -> vectors: word2vec's, frozen, or learned ones for a list of words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.streams.text import make_tokenizer, vectors
from datamodules.types import TextInputs


class WordVectors(nn.Module):
    """[B, L] ids -> [B, L, dim]; padding (id 0) is zero.

    With the tokenizer `word2vec` the vectors are those of its file: frozen, in no checkpoint, and read when they are
    first needed. They lie on the device that looks them up (GoogleNews: 3.6 GB), as fetching a batch's from the host
    would make each step wait. With `words` they are learned, for data whose words no file has vectors of.
    """

    def __init__(self, inputs: TextInputs, dim: int):
        super().__init__()
        self.inputs, self.dim = inputs, dim
        self.frozen = inputs.tokenizer == "word2vec"
        if not self.frozen:
            self.learned = nn.Embedding(make_tokenizer(inputs).size, dim, padding_idx=0)
        self._table: tuple[Tensor, ...] = ()  # in a tuple, so that nn.Module does not take it for its own part

    def forward(self, ids_BL: Tensor) -> Tensor:
        if not self.frozen:
            return self.learned(ids_BL)
        if not self._table and ids_BL.is_meta:
            return torch.empty(*ids_BL.shape, self.dim, device="meta")
        if not self._table:
            table_VD = torch.from_numpy(vectors(self.inputs))
            if table_VD.shape[1] != self.dim:
                raise ValueError(
                    f"{self.inputs.file}: vectors of {table_VD.shape[1]} numbers, but model.word_dim={self.dim}"
                )
            self._table = (table_VD,)
        if self._table[0].device != ids_BL.device:
            self._table = (self._table[0].to(ids_BL.device),)
        return nn.functional.embedding(ids_BL, self._table[0])
