"""Oxford-IIIT Pet (Parkhi et al. 2012): pictures of cats and dogs of 37 breeds, one a picture.

Official files, of `annotations.tar.gz`: `annotations/trainval.txt` and `test.txt`, each line a picture's name, the
number of its breed from 1, that of its species (1 cat, 2 dog) and of the breed in its species; `list.txt` (all of
them, with comments) is not read. Breeds are called as their pictures: those of cats begin with a capital.
Media: `images/<Breed>_<n>.jpg`, of which some are PNG, GIF or BMP whatever their name says.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.picture_sets import PictureSource, picture_boards, with_held_out

COLUMNS = ("picture", "breed", "species", "number")
LISTS = ("trainval", "test")


class Pets(PictureSource):
    name = "pets"
    title = "Oxford-IIIT Pet"
    citation = "Parkhi, Vedaldi, Zisserman, Jawahar. CVPR 2012"
    holds = "7,349 pictures of cats and dogs, 37 breeds, one a picture"
    licence = "CC BY-SA 4.0"
    url = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
    folders = ("oxford-iiit-pet", "Oxford-IIIT-Pet", "pets")
    splits, nested = with_held_out("trainval", "test")
    held_share = 0.1  # PolyViT's share
    sizes: ClassVar = {"trainval": 3680, "fit": 3312, "held_out": 368, "test": 3669}
    boards = picture_boards("pets", "trainval", "test")

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return tuple(f"annotations/{name}.txt" for name in LISTS)

    def _rows(self, part: str) -> source.Rows:
        rows = source.read_words(self.find(f"annotations/{part}.txt", f"{part}.txt"), COLUMNS)
        rows["name"] = rows["picture"].str.extract(r"^(.+)_\d+$")[0].fillna("")
        return rows

    @cached_property
    def classes(self) -> list[str]:
        """In the order of their numbers."""
        numbers: dict[int, str] = {}
        for part in LISTS:
            rows = self._rows(part)
            for number, name in zip(rows["breed"], rows["name"], strict=True):
                if name and number.isdecimal():
                    numbers.setdefault(int(number), name)
        if sorted(numbers) != list(range(1, len(numbers) + 1)) or len(set(numbers.values())) < len(numbers):
            raise source.DataError(
                f"{self.title}: the breeds of trainval.txt and test.txt are not numbered 1, 2, … with a name each: "
                f"{numbers}"
            )
        return [numbers[number] for number in sorted(numbers)]

    def read_split(self, split: str) -> source.Official:
        rows = self._rows("test" if split == "test" else "trainval")
        rows.reject(rows["name"] == "", "no picture called <Breed>_<n>: " + rows["picture"])
        labels = rows.labels("name", self.classes)
        numbers = {name: str(number) for number, name in enumerate(self.classes, 1)}
        rows.reject(rows["breed"] != rows["name"].map(numbers), "not the number of its breed: " + rows["breed"])
        return self.official(rows, split, rows["picture"], self._folder + rows["picture"] + ".jpg", labels)

    @property
    def _folder(self) -> str:
        """That of the pictures, wherever `annotations` lies."""
        try:
            return self.relative(self.find_folder("images", archive="images.tar.gz")) + "/"
        except source.DataError:  # each picture is missing then
            return "images/"
